"""Old names of public objects: they work for one release, with a warning that says the new one."""

import importlib
import warnings


def renamed(module, new_names, callers=1):
    """Returns a `__getattr__` for a module, which finds its objects under their old names too.

    Args:
        module: the module's `__name__`.
        new_names: `{old name: new name}`.
        callers: number of functions, this one included, between the user's line and the warning.
    """

    def __getattr__(name):
        if name not in new_names:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        new = new_names[name]
        warnings.warn(
            f"`{module}.{name}` is now called `{module}.{new}`; the old name goes with the next "
            "release.",
            DeprecationWarning,
            stacklevel=callers + 1,
        )
        return getattr(importlib.import_module(module), new)

    return __getattr__
