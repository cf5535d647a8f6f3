"""Packages whose public names are loaded when they are first used.

So a module of the package that needs no Keras can be imported without it.
"""

import importlib
import pkgutil
import sys


def names_of(package, public, otherwise=None):
    """Returns `__getattr__`, `__dir__` and `__all__` for the `__init__.py` of a package.

    A name must not be that of a module of the package, which Python would put in its place.

    Args:
        package: its `__name__`.
        public: `{module of the package: its public names}`.
        otherwise: function of a name that is not public, which returns its value or raises an
            AttributeError; `None`: it raises one.
    """
    modules = {name: module for module, names in public.items() for name in names}

    def __getattr__(name):
        here = sys.modules[package]
        if name in modules:
            value = getattr(importlib.import_module(f"{package}.{modules[name]}"), name)
            setattr(here, name, value)  # the next time it is found without this function
            return value
        if name in {module.name for module in pkgutil.iter_modules(here.__path__)}:
            return importlib.import_module(f"{package}.{name}")
        if otherwise is not None:
            return otherwise(name)
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    def __dir__():
        return sorted({*vars(sys.modules[package]), *modules})

    return __getattr__, __dir__, sorted(modules)
