"""The path a user takes: the bytes of a photograph in, logits out, on every photograph."""

import numpy as np
import pytest

from keras_convnext import ConvNeXt, Variant
from keras_convnext.preprocessing import EvalTransform
from tests.test_golden import CASES, GOLDEN, TOLERANCE

EXPECTED = GOLDEN / "eval_pipeline.npz"
if not EXPECTED.exists():
    pytest.skip(f"no golden files at {GOLDEN}", allow_module_level=True)


def test_photographs_become_the_logits_of_the_original():
    row = CASES["official_v1"]
    model = ConvNeXt(
        Variant("golden", row["depths"], row["dims"]),
        weights=row["folder"] / row["file"],
        classifier_activation=None,
    )
    transform = EvalTransform(224, crop_pct=0.875)
    with np.load(EXPECTED) as archive:
        names = [key.removesuffix("/logits224") for key in archive if key.endswith("/logits224")]
        expected = np.stack([archive[f"{name}/logits224"].reshape(-1) for name in names])
    photographs = [_file(name).read_bytes() for name in names]
    assert len(photographs) >= 10
    for images in (transform.batch(photographs), transform.batch(photographs).astype("float32")):
        logits = model.predict(images, verbose=0)
        assert np.abs(logits - expected).max() < TOLERANCE * np.abs(expected).max()


def _file(name):
    (file,) = [f for f in (GOLDEN / "photos").iterdir() if name in (f.name, f.stem)]
    return file
