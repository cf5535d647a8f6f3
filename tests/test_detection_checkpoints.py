"""Files of detectors: every publisher's names, strictly read, and written back."""

import functools
import json

import numpy as np
import pytest

from keras_convnext.detection import checkpoints
from keras_convnext.pretrained import checkpoint, contents, files
from keras_convnext.pretrained.axes import BEHIND_POOLING, channels_first_inputs, conversion
from keras_convnext.pretrained.layouts import DETECTION_LAYOUTS
from tests.backends import on_one_backend
from tests.test_golden import GOLDEN
from tests.test_saving import write_hollow

HEADS = {"mask": "mask_rcnn", "cascade": "cascade_mask_rcnn"}
DETECTION = GOLDEN / "detection"
if not DETECTION.exists():
    pytest.skip(f"no golden detectors at {DETECTION}", allow_module_level=True)
TO_OPENMMLAB = (("dwconv", "depthwise_conv"), ("pwconv", "pointwise_conv"))
FLAVOURS = {"official": (), "mmdetection": TO_OPENMMLAB}


@functools.cache
def described(name):
    """What is known of a golden detector, `"mask_tiny"` and so on."""
    return json.loads((DETECTION / f"{name}.json").read_text())


def renamed(tensors, flavour):
    found = {}
    for name, value in tensors.items():
        for old, new in FLAVOURS[flavour]:
            name = name.replace(old, new)
        found[name] = value
    return found


@functools.cache
def tiny(kind):
    """The tensors of a golden file, `{name: array}`."""
    return {
        name: np.ascontiguousarray(tensor.numpy())
        for name, tensor in files.read(DETECTION / f"{kind}_tiny.pth").items()
    }


# ---------------------------------------------------------------------------- names of the classes


@on_one_backend
def test_the_classes_of_coco():
    names, ids = checkpoints.class_names("coco"), checkpoints.category_ids("coco")
    assert len(set(names)) == len(set(ids)) == 80
    known = dict(zip(ids, names, strict=True))
    assert (known[1], known[13], known[27], known[90]) == (
        "person",
        "stop sign",
        "backpack",
        "toothbrush",
    )
    assert set(range(1, 91)) - set(ids) == {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}
    with pytest.raises(ValueError, match="`label_set` must be one of"):
        checkpoints.class_names("lvis")


# ---------------------------------------------------------------------------- names and shapes


@on_one_backend
@pytest.mark.parametrize("flavour", FLAVOURS)
@pytest.mark.parametrize("kind", HEADS)
def test_a_published_file_is_recognised(kind, flavour, tmp_path):
    """By the names and shapes of the full-size detectors."""
    shapes = renamed(described(f"{kind}_full")["state_dict"], flavour)
    write_hollow(tmp_path / "x.safetensors", shapes)
    opened = checkpoint.open(tmp_path / "x.safetensors", DETECTION_LAYOUTS)
    assert opened.match.layout.name.split()[0] == flavour
    assert opened.match.known == set(shapes)
    assert opened.similar()[0].classes == 80
    assert checkpoints.identify(tmp_path / "x.safetensors") == (HEADS[kind], "convnext_tiny")
    assert contents.head_of(tmp_path / "x.safetensors") == HEADS[kind]


@on_one_backend
def test_the_first_dense_layer_takes_channels_last():
    path, kernel = "box_head2/dense0/kernel", np.arange(3 * 2 * 49).reshape(3, 2 * 49)
    assert BEHIND_POOLING.fullmatch(path)
    pooled = np.random.default_rng(0).standard_normal((5, 2, 7, 7))  # PyTorch's axes
    ours = conversion(path, kernel.shape, (98, 3), keras_axes=False)(kernel)
    theirs = pooled.reshape(5, -1) @ kernel.T
    np.testing.assert_allclose(pooled.transpose(0, 2, 3, 1).reshape(5, -1) @ ours, theirs)
    np.testing.assert_array_equal(channels_first_inputs(ours), kernel)
    assert conversion(path, (3, 98), (3, 98), keras_axes=False) is None
    assert conversion(path, (3, 97), (97, 3), keras_axes=False) is None
