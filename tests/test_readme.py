"""What README.md shows is what the package has."""

import ast
import re

import pytest

import keras_convnext
from tests.variant_table import README, replaced

TEXT = README.read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


def test_the_table_of_variants_is_the_generated_one():
    assert replaced(TEXT) == TEXT, "run `make readme`"


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_code_names_things_that_exist(block):
    tree = ast.parse(block)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if node.value.id == "keras_convnext":
                assert hasattr(keras_convnext, node.attr), node.attr
        if isinstance(node, ast.ImportFrom) and node.module == "keras_convnext":
            assert all(hasattr(keras_convnext, alias.name) for alias in node.names)
