"""Every published layout against what the peers' own code computes, stage by stage.

The cases of `tests/golden` come with the repository. Those of `KERAS_CONVNEXT_GOLDEN` (default
`../shared/golden`) join them: a folder with an `index.json` of the fields that rebuild each model,
the files of weights, and the expected features.
"""

import functools
import json
import os
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_convnext import ConvNeXt, Variant

OWN = Path(__file__).parent / "golden"
GOLDEN = Path(
    os.environ.get("KERAS_CONVNEXT_GOLDEN", Path(__file__).parents[2] / "shared" / "golden")
)


def cases_of(folder):
    """Returns the rows of a folder's index by name, each with the folder's path as `folder`."""
    index = folder / "index.json"
    rows = json.loads(index.read_text())["cases"] if index.exists() else {}
    return {name: {**row, "folder": folder} for name, row in rows.items()}


CASES = cases_of(GOLDEN) | cases_of(OWN)
CLASSIFIERS = {name: row for name, row in CASES.items() if row["family"] != "upernet"}
TOLERANCE = 1e-4  # of the largest magnitude: float32, other order of summation
VARIANT_FIELDS = (
    "stem",
    "head_norm_first",
    "head_hidden",
    "epsilon",
    "norm",
    "activation",
    "kernel_sizes",
)

KNOWN_FIELDS = {"file", "expected", "family", "depths", "dims", "depth", "dim", "num_classes"}
KNOWN_FIELDS |= {*VARIANT_FIELDS, "layer_scale", "output_stride", "note", "folder"}


def variant_of(row):
    fields = {field: row[field] for field in VARIANT_FIELDS if field in row}
    depths, dims = row.get("depths"), row.get("dims")
    if row["family"] == "isotropic":
        depths, dims = (row["depth"],), (row["dim"],)
        fields |= {"stem_stride": 16, "stem_norm": False}
    layer_scale = row.get("layer_scale", row["family"] != "v2")
    return Variant(
        "golden",
        depths,
        dims,
        layer_scale=1e-6 if layer_scale else None,
        grn=row["family"] == "v2",
        **fields,
    )


def build(row, output_rank, **changes):
    arguments = {
        "include_top": row["num_classes"] > 0,
        "include_preprocessing": False,
        "weights": row["folder"] / row["file"],
        "input_shape": (None, None, 3),
        "pooling": "avg" if output_rank == 2 else None,
        "classes": row["num_classes"] or None,
        "classifier_activation": None,
        "output_stride": row.get("output_stride"),
    }
    return ConvNeXt(variant_of(row), **{**arguments, **changes})


def outputs_of(model, row, inputs):
    """Returns `{"stage0": ..., "output": ...}`."""
    depths = row.get("depths") or (row["depth"],)
    stages = {
        f"stage{s}": model.get_layer(f"stage{s}_block{depth - 1}").output
        for s, depth in enumerate(depths)
    }
    probe = keras.Model(model.input, {**stages, "output": model.output})
    return {k: keras.ops.convert_to_numpy(v) for k, v in probe(inputs).items()}


def relative_error(computed, expected):
    assert computed.shape == expected.shape
    return np.abs(computed - expected).max() / np.abs(expected).max()


@functools.cache
def expected_of(name):
    with np.load(CLASSIFIERS[name]["folder"] / CLASSIFIERS[name]["expected"]) as archive:
        return dict(archive)


@pytest.mark.filterwarnings("ignore:The file holds weights under 'model', 'model_ema'")
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_each_stage_and_the_output_equal_the_peers(name):
    expected, row = expected_of(name), CLASSIFIERS[name]
    assert set(row) <= KNOWN_FIELDS
    model = build(row, expected["output"].ndim)
    computed = outputs_of(model, row, expected["input"])
    keys = [key for key in expected if key != "input"]
    assert "output" in keys
    errors = {key: relative_error(computed[key], expected[key]) for key in keys}
    assert max(errors.values()) < TOLERANCE, errors


def test_the_repository_has_cases_of_its_own():
    assert {row["family"] for row in cases_of(OWN).values()} == {"v1", "v2"}
