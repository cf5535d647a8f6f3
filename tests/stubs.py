"""The stub files for editors and type checkers, generated: `make readme` writes them.

The public names are loaded lazily and the factories are made by a function, which no static tool
follows. In a stub the names are imports, and the factories are of a type with all their arguments.
"""

import functools
import inspect
import sys
from pathlib import Path

import keras_convnext
from keras_convnext import detection, segmentation

FOLDER = Path(keras_convnext.__file__).parent
MODELS = {"UperNet": "SegmentationModel", "MaskRCNN": "DetectionModel"}  # by the factory's name
HEAD = "# Written by `make readme`: change the code, not this file.\n"


def package_stub():
    """Returns the text of `keras_convnext/__init__.pyi`."""
    objects = {name: getattr(keras_convnext, name) for name in keras_convnext.MODULE_OF}
    modules = (*keras_convnext.SUBMODULES, *keras_convnext.OPTIONAL)
    lines = [f"from keras_convnext import {name} as {name}" for name in modules]
    for name in objects:
        if not _is_factory(objects[name]):
            module = f"keras_convnext.{keras_convnext.MODULE_OF[name]}"
            lines.append(f"from {module} import {name} as {name}")
    listed = "".join(f'    "{name}",\n' for name in keras_convnext.__all__)
    return _stub(lines, ["__version__: str", f"__all__ = [\n{listed}]\n"], objects)


def stub_of(package):
    """Returns the text of the `__init__.pyi` of a package inside of `keras_convnext`."""
    modules = {name: module for module, names in package.PUBLIC.items() for name in names}
    objects = {name: getattr(package, name) for name in sorted(modules)}
    lines = [
        f"from {package.__name__}.{modules[name]} import {name} as {name}"
        for name, value in objects.items()
        if not _is_factory(value)
    ]
    return _stub(lines, [], objects)


def _is_factory(value):
    return inspect.isfunction(value) and value.__code__.co_name == "factory"


def _stub(imports, rest, objects):
    factories = {name: value for name, value in objects.items() if _is_factory(value)}
    imports = sorted(imports, key=lambda line: line.split()[1::2])
    parts = [HEAD, "from typing import Protocol\n", *imports, "", *rest]
    parts += [
        _signature(*next(iter(factories.items()))),
        *(f"{name}: Factory" for name in factories),
    ]
    return "\n".join(parts) + "\n"


def _signature(name, factory):
    """Returns the definition of the type that all factories have: how they are called."""
    signature = inspect.signature(factory)
    if "kwargs" in signature.parameters:  # passed on, all but the variant
        whole = inspect.signature(segmentation.UperNet)
        signature = whole.replace(parameters=list(whole.parameters.values())[1:])
    lines = ["        self,"]
    for parameter in signature.parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY and "        *," not in lines:
            lines.append("        *,")
        lines.append(f"        {parameter},".replace("'", '"'))
    model = next((MODELS[part] for part in MODELS if part in name), "PyramidModel")
    end = f"    ) -> {model}: ...\n"
    return "\n".join(["class Factory(Protocol):", "    def __call__(", *lines, end])


STUBS = {
    FOLDER / "__init__.pyi": package_stub,
    FOLDER / "detection" / "__init__.pyi": functools.partial(stub_of, detection),
    FOLDER / "segmentation" / "__init__.pyi": functools.partial(stub_of, segmentation),
}


if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        sys.exit("usage: python -m tests.stubs --write")
    for path, stub in STUBS.items():
        path.write_text(stub())
