"""Files of detectors: every publisher's names, strictly read, and written back."""

import dataclasses
import functools
import json
import math
import re
from collections import OrderedDict

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from keras_convnext import VARIANTS, ConvNeXt, Variant, cli, count_macs
from keras_convnext.detection import (
    CASCADE_MASK_RCNN,
    MASK_RCNN,
    CascadeMaskRCNN,
    Detector,
    MaskRCNN,
    checkpoints,
)
from keras_convnext.macs import trained_parameters
from keras_convnext.named_weights import weights_of
from keras_convnext.names import local_path
from keras_convnext.pretrained import WeightsError, checkpoint, contents, files, resolve
from keras_convnext.pretrained.axes import BEHIND_POOLING, channels_first_inputs, conversion
from keras_convnext.pretrained.layouts import DETECTION_LAYOUTS
from keras_convnext.pretrained.saving import in_layout, save_keras, save_weights
from keras_convnext.segmentation import UperNet
from tests.backends import numpy, on_one_backend
from tests.shape_only import shapes_only
from tests.test_golden import CASES, GOLDEN
from tests.test_saving import write_hollow
from weights import convert, verify

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
        name: np.asarray(tensor.numpy(), order="C")
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


# ---------------------------------------------------------------------------- models

VARIANT = Variant("golden", (1, 1, 2, 1), (8, 16, 24, 32))
NARROW = {"channels": 16, "box_units": 32}
BUILDERS = {"mask": (MaskRCNN, MASK_RCNN), "cascade": (CascadeMaskRCNN, CASCADE_MASK_RCNN)}
COUNTER = ".num_batches_tracked"  # 0 in files of ours


def build(kind, weights=None, **arguments):
    builder, settings = BUILDERS[kind]
    settings = dataclasses.replace(settings, **NARROW)
    return builder(VARIANT, weights=weights, settings=settings, **arguments)


@functools.cache
def filled(kind):
    """A model with the weights of the golden file."""
    return build(kind, DETECTION / f"{kind}_tiny.pth")


def arrays_of(model):
    return {local_path(w.path): numpy(w.value) for w in model.weights}


def write(path, tensors):
    save_file({name: np.asarray(array, order="C") for name, array in tensors.items()}, path)
    return path


def same_bits(found, expected):
    assert set(found) == set(expected)
    different = [n for n in expected if found[n].tobytes() != expected[n].tobytes()]
    assert different == []


@on_one_backend
@pytest.mark.parametrize("flavour", FLAVOURS)
@pytest.mark.parametrize("kind", HEADS)
def test_a_published_file_comes_out_as_it_went_in(kind, flavour, tmp_path):
    expected = renamed(tiny(kind), flavour)
    model = build(kind, write(tmp_path / "in.safetensors", expected))
    same_bits(arrays_of(model), arrays_of(filled(kind)))
    save_weights(model, VARIANT, tmp_path / "out.safetensors", flavour)
    found = load_file(tmp_path / "out.safetensors")
    counts = {name for name in expected if name.endswith(COUNTER)}
    assert all(found[name].shape == () and found[name] == 0 for name in counts)
    assert len(counts) == (12 if kind == "cascade" else 0)
    for name in counts:
        found[name] = expected[name]
    same_bits(found, expected)


@on_one_backend
def test_a_training_checkpoint_of_the_authors_loads(tmp_path):
    import torch

    state = OrderedDict((name, torch.tensor(array)) for name, array in tiny("mask").items())
    content = {
        "meta": {"CLASSES": ("person", "dog"), "epoch": 36, "config": "model = dict()"},
        "state_dict": state,
        "optimizer": {"state": {0: {"step": 1, "exp_avg": torch.zeros(2)}}, "param_groups": []},
        "amp": {"loss_scaler0": {"loss_scale": 65536.0, "unskipped": 1}},
    }
    torch.save(content, tmp_path / "mask_rcnn.pth")
    same_bits(arrays_of(build("mask", tmp_path / "mask_rcnn.pth")), arrays_of(filled("mask")))


@pytest.mark.parametrize("suffix", [".keras", ".weights.h5"])
@pytest.mark.parametrize("kind", HEADS)
def test_files_of_ours_come_back(kind, suffix, tmp_path):
    save_keras(filled(kind), tmp_path / f"m{suffix}")
    assert contents.head_of(tmp_path / f"m{suffix}") == HEADS[kind]
    same_bits(arrays_of(build(kind, tmp_path / f"m{suffix}")), arrays_of(filled(kind)))


BOX, REG = "roi_head.bbox_head.fc_cls.weight", "roi_head.bbox_head.fc_reg.weight"


@on_one_backend
@pytest.mark.parametrize(
    "change, message",
    [
        ({"backbone.norm2.bias": None}, r"missing: backbone\.norm2\.bias"),
        ({"neck.fpn_convs.3.conv.bias": None}, r"missing: neck\.fpn_convs\.3\.conv\.bias"),
        ({BOX: None}, r"missing: roi_head\.bbox_head\.fc_cls\.weight"),
        ({"rpn_head.odd.weight": np.ones(3, "float32")}, r"unused: rpn_head\.odd\.weight"),
        ({"teacher.weight": np.ones(3, "float32")}, "foreign: teacher.weight"),
        (
            {"roi_head.mask_head.upsample.weight": np.ones((16, 16, 3, 3), "float32")},
            r"shape: roi_head\.mask_head\.upsample\.weight is \(16, 16, 3, 3\)",
        ),
        (
            {"roi_head.bbox_head.shared_fcs.0.weight": np.ones((32, 16), "float32")},
            r"shape: roi_head\.bbox_head\.shared_fcs\.0\.weight",
        ),
        ({REG: np.full((20, 32), np.nan, "float32")}, "not finite: roi_head.bbox_head.fc_reg"),
        ({REG: np.ones((20, 32), "int64")}, "dtype: roi_head.bbox_head.fc_reg.weight holds int64"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_does_not_fit_is_refused(change, message, tmp_path):
    tensors = {
        name: array for name, array in {**tiny("mask"), **change}.items() if array is not None
    }
    with pytest.raises(WeightsError, match=message):
        build("mask", write(tmp_path / "m.safetensors", tensors))


@on_one_backend
def test_all_faults_are_listed_at_once(tmp_path):
    tensors = dict(tiny("mask"))
    tensors["backbone.norm0.bias"] = np.ones(9, "float32")
    del tensors["backbone.norm1.bias"], tensors["rpn_head.rpn_cls.weight"]
    with pytest.raises(WeightsError) as caught:
        build("mask", write(tmp_path / "m.safetensors", tensors))
    text = str(caught.value)
    assert all(part in text for part in ("norm0.bias", "norm1.bias", "rpn_cls.weight"))


@on_one_backend
@pytest.mark.parametrize("kind", HEADS)
def test_another_number_of_classes_keeps_the_rest(kind):
    model, before = build(kind, DETECTION / f"{kind}_tiny.pth", classes=3), arrays_of(filled(kind))
    after = arrays_of(model)
    fresh = {path for path in before if not np.array_equal(before[path], after[path])}
    heads = {
        path for path in fresh if re.fullmatch(r"(box|mask)_head\d/(classifi|regress).*", path)
    }
    assert fresh == heads and len(fresh) == (6 if kind == "mask" else 18)
    assert after["box_head0/classifier/kernel"].shape == (32, 4)
    assert after["box_head0/regressor/kernel"].shape == (32, 12)
    assert after["mask_head0/classifier/kernel"].shape == (1, 1, 16, 3)


@on_one_backend
def test_masks_may_be_left_out(tmp_path):
    """Of the model, with a file that has them; and of both."""
    boxes = build("cascade", DETECTION / "cascade_tiny.pth", masks=False)
    before, after = arrays_of(filled("cascade")), arrays_of(boxes)
    same_bits(after, {path: before[path] for path in before if "mask_head" not in path})
    save_weights(boxes, VARIANT, tmp_path / "boxes.safetensors")
    again = build("cascade", tmp_path / "boxes.safetensors", masks=False)
    same_bits(arrays_of(again), after)
    with pytest.raises(WeightsError, match="without heads for masks, .*`masks=False`"):
        build("cascade", tmp_path / "boxes.safetensors")
    tensors = {n: a for n, a in tiny("mask").items() if "mask_head.convs.2" not in n}
    with pytest.raises(WeightsError, match=r"missing: roi_head\.mask_head\.convs\.2\.conv"):
        build("mask", write(tmp_path / "m.safetensors", tensors))


@on_one_backend
def test_a_detector_is_as_its_file(tmp_path, monkeypatch):
    """With its widths, and without masks where it has none."""
    monkeypatch.setitem(VARIANTS, "golden", VARIANT)
    boxes = build("mask", DETECTION / "mask_tiny.pth", masks=False)
    save_weights(boxes, VARIANT, tmp_path / "boxes.safetensors")
    detect = Detector(str(tmp_path / "boxes.safetensors"), size=(64, 64), variant="golden")
    assert detect.model.mask_heads == [] and detect.model.settings.box_units == 32
    same_bits(arrays_of(detect.model), arrays_of(boxes))
    found = detect(np.zeros((40, 60, 3), "uint8"))
    assert found.boxes.shape[1:] == (4,)


# ---------------------------------------------------------------------------- other kinds of files


@on_one_backend
def test_a_file_of_another_kind_says_what_reads_it(tmp_path):
    detector = DETECTION / "mask_tiny.pth"
    mask = "It holds a Mask R-CNN: `keras_convnext.detection.MaskRCNN` reads it"
    with pytest.raises(WeightsError, match=mask):
        build("cascade", detector)
    cascade = "holds a Cascade Mask R-CNN: `keras_convnext.detection.CascadeMaskRCNN` reads it"
    with pytest.raises(WeightsError, match=cascade):
        build("mask", DETECTION / "cascade_tiny.pth")
    save_keras(filled("cascade"), tmp_path / "m.weights.h5")
    with pytest.raises(WeightsError, match=cascade):
        build("mask", tmp_path / "m.weights.h5")
    with pytest.raises(WeightsError, match=mask):
        ConvNeXt(VARIANT, weights=detector)
    with pytest.raises(WeightsError, match=mask):
        UperNet(VARIANT, weights=detector)
    with pytest.raises(WeightsError, match="holds a ConvNeXt: `keras_convnext.ConvNeXt` reads it,"):
        build("mask", GOLDEN / "official_v1.pth")
    with pytest.raises(WeightsError, match="It holds an UperNet: `keras_convnext.segmentation.U"):
        build("mask", GOLDEN / CASES["transformers_upernet"]["file"])


@on_one_backend
def test_what_a_file_holds_is_seen(tmp_path):
    small = Variant("small", (1, 1, 1, 1), (8, 8, 8, 8))
    widths = {"channels": 8, "auxiliary_channels": 8}
    save_keras(UperNet(small, classes=3, **widths), tmp_path / "upernet.weights.h5")
    save_keras(ConvNeXt(small, classes=3), tmp_path / "small.keras")
    assert contents.head_of(tmp_path / "upernet.weights.h5") == "upernet"
    assert contents.head_of(tmp_path / "small.keras") is None
    assert contents.head_of(GOLDEN / "official_v1.pth") is None
    assert contents.head_of(GOLDEN / CASES["transformers_upernet"]["file"]) == "upernet"
    with pytest.raises(ValueError, match="holds a Mask R-CNN, no classifier: `keras_convnext.det"):
        weights_of(str(DETECTION / "mask_tiny.pth"))
    write(tmp_path / "odd.safetensors", {"odd.weight": np.ones(3, "float32")})
    with pytest.raises(WeightsError, match="odd.safetensors: its tensors .* in no known ConvNeXt"):
        contents.head_of(tmp_path / "odd.safetensors")


@on_one_backend
@pytest.mark.parametrize(
    ("kind", "variant", "weights", "message"),
    [
        ("mask", "convnext_small", "coco", "No Mask R-CNN weights of convnext_small were publis"),
        ("mask", "convnext_tiny", "cascade_mask_rcnn_convnext_tiny", "asked for was a Mask R-CNN"),
        ("cascade", "convnext_tiny", "imagenet", "`backbone_weights`"),
        ("cascade", "convnextv2_tiny", "coco", "No Cascade Mask R-CNN weights of convnextv2_tiny"),
        ("cascade", "convnext_base", "fb_in1k_coco", "Nearest: .*fb_in1k_ft_coco"),
        ("mask", "convnext_tiny", "nowhere.pth", "No file of weights"),
    ],
)
def test_unknown_weights_are_refused(kind, variant, weights, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        BUILDERS[kind][0](variant, weights)


@on_one_backend
def test_the_backbone_of_a_detector_is_read_as_features():
    with pytest.warns(UserWarning, match="left out, as no part of golden: .*neck"):
        encoder = ConvNeXt(
            dataclasses.replace(VARIANT, head_norm=False),
            include_top=False,
            weights=DETECTION / "mask_tiny.pth",
        )
    ours, theirs = arrays_of(encoder), arrays_of(filled("mask"))
    same_bits(ours, {path: theirs[path] for path in ours})


# ---------------------------------------------------------------------------- commands


@on_one_backend
def test_the_commands_take_detectors(tmp_path, capsys, monkeypatch):
    """Their family, widths and numbers of layers are those of the file."""
    monkeypatch.setitem(VARIANTS, "golden", VARIANT)
    source, there = str(DETECTION / "cascade_tiny.pth"), str(tmp_path / "m.safetensors")

    def run(*arguments):
        code = cli.main([*arguments, "--variant", "golden"])
        return code, *capsys.readouterr()

    code, out, _ = run("convert", source, there, "--layout", "mmdetection", "--json")
    report = json.loads(out)
    assert (code, report["layout"], report["classes"]) == (0, "mmdetection", 5)
    assert report["parameters"] == described("cascade_tiny")["parameters"]
    code, out, _ = run("verify", there, "--json")
    assert code == 0 and json.loads(out)["result"] == "good"
    assert run("convert", there, str(tmp_path / "back.keras"))[0] == 0
    assert run("convert", str(tmp_path / "back.keras"), str(tmp_path / "o.safetensors"))[0] == 0
    same = load_file(tmp_path / "o.safetensors")
    same_bits(
        {name: array for name, array in same.items() if not name.endswith(COUNTER)},
        {name: array for name, array in tiny("cascade").items() if not name.endswith(COUNTER)},
    )
    code, _, err = run("convert", source, there, "--layout", "timm", "--force")
    assert code == 2 and "of a Cascade Mask R-CNN is official or mmdetection, not timm" in err


@on_one_backend
def test_the_applications_take_detectors(tmp_path, monkeypatch):
    monkeypatch.setitem(VARIANTS, "golden", VARIANT)
    path = DETECTION / "cascade_tiny.pth"
    monkeypatch.setattr(resolve, "fetch", lambda row, include_top: path)
    row = dataclasses.replace(
        checkpoints.find("cascade_mask_rcnn_convnext_tiny"),
        **{"variant": "golden", "classes": 5, "size": 64},
        params=described("cascade_tiny")["parameters"],
    )
    found = verify.verify(row, row.sources[0])
    assert (found["error"], found["parameters"]) == (None, row.params)
    wrong = verify.verify(dataclasses.replace(row, params=5), row.sources[0])
    assert f"{row.params} parameters, the registry says 5" in wrong["error"]
    written = convert.convert(row, tmp_path, ".safetensors", "mmdetection")
    assert set(load_file(written)) == set(renamed(tiny("cascade"), "mmdetection"))


# ---------------------------------------------------------------------------- full size


@functools.cache
def full_size(name, variant):
    with shapes_only():
        return BUILDERS[name][0](variant, weights=None)


@on_one_backend
@pytest.mark.parametrize("flavour", FLAVOURS)
@pytest.mark.parametrize("kind", HEADS)
def test_names_and_shapes_are_those_of_the_published_code(kind, flavour):
    model, expected = full_size(kind, "convnext_tiny"), described(f"{kind}_full")
    zero = np.float32(0)
    hollow = {local_path(w.path): np.broadcast_to(zero, w.shape) for w in model.weights}
    tensors = in_layout(hollow, VARIANTS["convnext_tiny"], flavour)
    shapes = {name: tuple(shape) for name, shape in expected["state_dict"].items()}
    assert {name: array.shape for name, array in tensors.items()} == renamed(shapes, flavour)
    assert trained_parameters(model) == expected["parameters"]


@on_one_backend
@pytest.mark.slow
@pytest.mark.parametrize("flavour", FLAVOURS)
@pytest.mark.parametrize("kind", HEADS)
def test_the_released_names_and_shapes_load(kind, flavour, tmp_path):
    """In a Tiny of full size; in the file the tensors of zeros share their numbers."""
    import torch

    shapes = renamed(described(f"{kind}_full")["state_dict"], flavour)
    zeros = torch.zeros(max(map(math.prod, shapes.values())))
    tensors = {name: zeros[: math.prod(shape)].view(shape) for name, shape in shapes.items()}
    torch.save({"state_dict": tensors}, tmp_path / "tiny.pth")
    model = BUILDERS[kind][0]("convnext_tiny", tmp_path / "tiny.pth")
    assert not any(numpy(weight).any() for weight in model.weights)
    assert trained_parameters(model) == described(f"{kind}_full")["parameters"]
    tensors.pop("neck.fpn_convs.2.conv.bias")
    torch.save({"state_dict": tensors}, tmp_path / "tiny.pth")
    with pytest.raises(WeightsError, match="missing: neck.fpn_convs.2.conv.bias for neck/output2"):
        BUILDERS[kind][0]("convnext_tiny", tmp_path / "tiny.pth")


# Table 3 of arXiv 2201.03545: multiply-adds at 1280 x 800 in units of 1e9; millions of parameters
PUBLISHED = {
    ("mask", "convnext_tiny"): (262, 48),
    ("cascade", "convnext_tiny"): (741, 86),
    ("cascade", "convnext_small"): (827, 108),
    ("cascade", "convnext_base"): (964, 146),
    ("cascade", "convnext_large"): (1354, 255),
    ("cascade", "convnext_xlarge"): (1898, 407),
}


@on_one_backend
@pytest.mark.parametrize(("kind", "variant"), PUBLISHED)
def test_multiply_adds_and_parameters_are_those_of_the_paper(kind, variant):
    model = full_size(kind, variant)
    macs, millions = PUBLISHED[kind, variant]
    found = count_macs(model, (800, 1280, 3)) / 1e9
    print(f"{found:.2f}")
    assert found == pytest.approx(macs, rel=0.01)
    parameters = trained_parameters(model)
    assert round(parameters / 1e6) == millions
    assert checkpoints.find("coco", variant, HEADS[kind]).params == parameters
