"""The plan of the project is what is on disk: the tree in CONTRIBUTING, imports, sizes of files."""

import ast
import re
from pathlib import Path

from keras_convnext.version import __version__
from tests.backends import on_one_backend

ROOT = Path(__file__).resolve().parents[1]
LIBRARY, APPLICATIONS = "keras_convnext", ("training", "weights", "benchmarks")
LINES, FUNCTION_LINES = 450, 36

pytestmark = on_one_backend


def modules():
    """Returns `{dotted name: path}` of every module of library and applications."""
    paths = [p for top in (LIBRARY, *APPLICATIONS) for p in sorted((ROOT / top).rglob("*.py"))]
    names = [p.relative_to(ROOT).with_suffix("").parts for p in paths]
    return {
        ".".join(name[:-1] if name[-1] == "__init__" else name): path
        for name, path in zip(names, paths, strict=True)
    }


MODULES = modules()


def imported(name, path):
    """Returns the project's modules that a module names in imports, those in functions included."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            module = absolute(node, name, path)
            targets = [
                full if (full := f"{module}.{alias.name}") in MODULES else module
                for alias in node.names
            ]
        else:
            continue
        found |= {target for target in targets if target in MODULES}
    return found - {name}


def absolute(node, name, path):
    """Returns the name of the module that a `from ... import` names, relative or not."""
    if not node.level:
        return node.module
    package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    package = package[: len(package) - node.level + 1]
    return ".".join([*package, *filter(None, [node.module])])


def circles(arrows):
    """Returns the groups of modules that reach one another, by Tarjan's algorithm."""
    index, low, stack, found = {}, {}, [], []

    def visit(name):
        index[name] = low[name] = len(index)
        stack.append(name)
        for target in arrows[name]:
            if target not in index:
                visit(target)
            if target in stack:
                low[name] = min(low[name], low[target])
        if low[name] == index[name]:
            place = stack.index(name)
            group = stack[place:]
            del stack[place:]
            if len(group) > 1:
                found.append(sorted(group))

    for name in arrows:
        if name not in index:
            visit(name)
    return found


def test_no_modules_import_each_other():
    arrows = {name: imported(name, path) for name, path in MODULES.items()}
    assert "training.run.course" in arrows["training.train"]  # its imports are relative
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == [["b", "c"]]
    assert circles(arrows) == []


def test_the_library_does_not_import_the_applications():
    for name, path in MODULES.items():
        if name.split(".")[0] == LIBRARY:
            strangers = {m for m in imported(name, path) if m.split(".")[0] != LIBRARY}
            assert not strangers, name


def test_the_trainer_has_no_name_in_its_own_imports():
    """In a wheel it has another name, so that it is not taken for anybody else's `training`."""
    for name, path in MODULES.items():
        if name.split(".")[0] == "training":
            assert not re.search(r"^\s*(from|import) training\b", path.read_text(), re.M), name


def test_files_and_functions_are_short():
    long = {}
    for name, path in MODULES.items():
        if name.split(".")[0] != LIBRARY:
            continue
        text = path.read_text(encoding="utf-8")
        if text.count("\n") >= LINES:
            long[name] = text.count("\n")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                if (lines := body_lines(node)) >= FUNCTION_LINES:
                    long[f"{name}.{node.name}"] = lines
    assert long == {}


def body_lines(function):
    """Returns the number of lines of a function's statements, without its docstring."""
    body = function.body[1:] if ast.get_docstring(function) else function.body
    return body[-1].end_lineno - body[0].lineno + 1 if body else 0


def tree_in_contributing():
    """Returns the paths of the tree, whose indentation of two spaces is one level."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    block = re.search(r"```text\n(.*?)```", text, re.S)[1]
    found, parents = [], []
    for line in block.splitlines():
        entry = re.match(r"( *)(\S+)", line)
        depth = len(entry[1]) // 2
        parents[depth:] = [entry[2].rstrip("/")]
        found.append((Path(*parents), entry[2].endswith("/")))
    return found


def test_the_tree_in_contributing_is_the_tree_on_disk():
    shown = dict(tree_in_contributing())
    for path, is_folder in shown.items():
        assert (ROOT / path).is_dir() if is_folder else (ROOT / path).is_file(), path
    rooms = {path for path in (ROOT / LIBRARY).iterdir() if path.name[0] not in "._"}
    rooms |= {path for path in (ROOT / "training").iterdir() if path.is_dir()}
    missing = {str(path.relative_to(ROOT)) for path in rooms if path.name != "__pycache__"}
    assert missing - {str(path) for path in shown} == set()


def test_version_and_changelog_agree():
    """Between releases the version is the next one, in development."""
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    newest, before = re.findall(r"^## (\S+)", text, re.MULTILINE)[:2]
    number, development = re.fullmatch(r"(\d+\.\d+\.\d+)(\.dev0)?", __version__).groups()
    assert newest == ("Unreleased" if development else number)
    assert [*map(int, before.split("."))] < [*map(int, number.split("."))]
