"""The pages of the API reference: one for the package itself, one for each public module.

What is public is what the package says: `keras_convnext.__all__`, the `__all__` of a module, what a
package imports where it has none, and the functions and classes of a module that is one file.
"""

import ast
import importlib
import inspect
import re
from pathlib import Path

import keras_convnext

# What is no function and no class has no docstring.
DATA = {
    "keras_convnext.VARIANTS": "`{name: Variant}` of all architectures.",
    "keras_convnext.__version__": "The version of the package, a string.",
    "keras_convnext.layers.ACTIVATIONS": "`{name: function}` of the blocks' activations.",
    "keras_convnext.layers.NORMS": "`{name: layer class}` of the norms.",
    "keras_convnext.segmentation.SCALES": "The sizes, relative to the image's own, at which a "
    "`Segmenter` looks at it in the evaluation at several scales.",
    "keras_convnext.detection.CASCADE_MASK_RCNN": "The published `Settings` of a Cascade Mask "
    "R-CNN.",
    "keras_convnext.detection.MASK_RCNN": "The published `Settings` of a Mask R-CNN.",
}
TITLES = {
    "classifier": "Classifier",
    "models": "Models",
    "labels": "Class names",
    "macs": "Multiply-adds",
    "memory": "Memory",
    "features": "Pyramid features",
    "layers": "Layers",
    "optimization": "Optimization",
    "preprocessing": "Preprocessing",
    "variants": "Architectures",
}


def names_of(module):
    """Returns the public names of a module of the package, sorted as it lists them."""
    found = importlib.import_module(f"keras_convnext.{module}")
    if hasattr(found, "__all__"):
        return list(found.__all__)
    tree = ast.parse(Path(found.__file__).read_text(encoding="utf-8"))
    if Path(found.__file__).name == "__init__.py":
        imports = [node for node in tree.body if isinstance(node, ast.ImportFrom)]
        names = [alias.asname or alias.name for node in imports for alias in node.names]
        return [name for name in names if name[0] != "_" and name != "deprecation"]
    return [name for node in tree.body for name in _defined(node) if name[0] != "_"]


def _defined(node):
    """Returns the names that a statement of a module defines, or hands on: `a as a`."""
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
        return [node.name]
    if isinstance(node, ast.ImportFrom):
        return [alias.name for alias in node.names if alias.asname == alias.name]
    return []


def pages():
    """Returns `{page: [full names documented on it]}`: "keras_convnext", and one per module."""
    top = [name for name in keras_convnext.__all__ if name not in keras_convnext.SUBMODULES]
    found = {"keras_convnext": [f"keras_convnext.{name}" for name in top]}
    for module in (*keras_convnext.SUBMODULES, *keras_convnext.OPTIONAL):
        own = [name for name in names_of(module) if name not in top]
        found[module] = [f"keras_convnext.{module}.{name}" for name in own]
    return found


def links():
    """Returns `{code: full name}` of what a docstring means by a short or a dotted name."""
    found = {}
    for full in (name for names in reversed(pages().values()) for name in names):
        parts = full.split(".")
        found |= {".".join(parts[start:]): full for start in range(len(parts))}
    # a word such as `sample` or `float32` alone usually means something else
    return {code: full for code, full in found.items() if re.search("[A-Z_.]", code)}


def write(folder, write_text):
    """Writes the pages, by `write_text(path, text)`, into a folder."""
    all_pages = pages()
    write_text(folder / "index.md", _index(all_pages))
    for page in all_pages:
        names = all_pages[page]
        text = _package(names) if page == "keras_convnext" else _module(page, names)
        write_text(folder / f"{page}.md", text)


def _index(all_pages):
    lines = ["# API reference", "", "Every public name, with its arguments and what it raises."]
    lines += ["`import keras_convnext` gives the names of the first page, and the modules.", ""]
    lines += ["```{toctree}", ":maxdepth: 1", "", *all_pages, "```", ""]
    return "\n".join(lines)


def _package(names):
    lines = ["# The package", "", "Names of `keras_convnext` itself.", ""]
    module_of = {f"keras_convnext.{name}": m for name, m in keras_convnext.MODULE_OF.items()}
    for module in sorted(dict.fromkeys(module_of.values()), key=list(TITLES).index):
        own = [name for name in names if module_of.get(name) == module]
        lines += [f"## {TITLES[module]}", "", *_directives(own)]
    rest = [name for name in names if name not in module_of]
    return "\n".join([*lines, "## Version", "", *_directives(rest)])


def _module(page, names):
    lines = [
        f"# {page}",
        "",
        f"`keras_convnext.{page}`",
        "",
        *_directive("automodule", f"keras_convnext.{page}"),
    ]
    also = [name for name in names_of(page) if name in keras_convnext.MODULE_OF]
    if also:
        shown = ", ".join(f"{{py:obj}}`{name} <keras_convnext.{name}>`" for name in also)
        lines += [f"Documented with the [package](keras_convnext.md): {shown}.", ""]
    return "\n".join([*lines, *_directives(names)])


def _directives(names):
    lines = []
    for full in names:
        value = _value(full)
        if inspect.isclass(value):
            lines += _directive("autoclass", full, *_members(value))
        elif callable(value):
            lines += _directive("autofunction", full)
        else:
            lines += _directive("autodata", full, ":no-value:", "", DATA[full].replace("`", "``"))
    return lines


def _members(kind):
    """Returns the options for what a class and those of ours that it inherits from say of
    themselves; what it has from Keras is in Keras' documentation."""
    ours = [c for c in kind.__mro__ if c.__module__.startswith("keras_convnext")]
    found = dict.fromkeys(name for c in reversed(ours) for name, v in vars(c).items() if _says(v))
    public = [name for name in found if name[0] != "_"]
    options = [f":members: {', '.join(public)}"] if public else []
    return options + [":special-members: __call__"] * ("__call__" in found)


def _says(value):
    value = getattr(value, "func", value)  # of a cached property
    kinds = (property, classmethod, staticmethod)
    return bool((inspect.isfunction(value) or isinstance(value, kinds)) and value.__doc__)


def _value(full):
    module, _, name = full.rpartition(".")
    return getattr(importlib.import_module(module), name)


def _directive(kind, name, *options):
    lines = [f"   {option}" if option else "" for option in options]
    return ["```{eval-rst}", f".. {kind}:: {name}", *lines, "```", ""]
