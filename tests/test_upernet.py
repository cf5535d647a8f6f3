"""UperNet: equal to the peers' code, its files, its training."""

import functools
import inspect
import json
import math
import re
from collections import OrderedDict

import keras
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import keras_convnext
from keras_convnext import VARIANTS, ConvNeXtTiny, Variant, cli, segmentation
from keras_convnext.layers import ConvNormReLU
from keras_convnext.macs import trained_parameters
from keras_convnext.pretrained import WeightsError
from keras_convnext.pretrained.saving import save_weights
from keras_convnext.segmentation import (
    PixelCrossEntropy,
    SegmentationModel,
    UperNet,
    UperNetConvNeXtTiny,
    checkpoints,
    fit_metrics,
)
from keras_convnext.segmentation import models as upernets
from keras_convnext.segmentation.heads import ChannelDropout
from keras_convnext.segmentation.resampling import AdaptiveAveragePooling
from tests.backends import BACKEND, compiles_long, numpy, on_one_backend
from tests.shape_only import shapes_only
from tests.test_golden import CASES, GOLDEN, TOLERANCE, relative_error

if "transformers_upernet" not in CASES:
    pytest.skip(f"no golden UperNet at {GOLDEN}", allow_module_level=True)
ROW = CASES["transformers_upernet"]
FILE = GOLDEN / ROW["file"]
VARIANT = Variant("golden", tuple(ROW["depths"]), tuple(ROW["dims"]))
ARGUMENTS = {
    "channels": ROW["head_channels"],
    "auxiliary_channels": ROW["aux_channels"],
    "include_preprocessing": False,
}


def build(weights=FILE, **arguments):
    return UperNet(VARIANT, weights=weights, **{**ARGUMENTS, **arguments})


@functools.cache
def expected():
    with np.load(GOLDEN / ROW["expected"]) as archive:
        return dict(archive)


@functools.cache
def trained():
    """A model of four classes that has been trained for two steps, with its data and history."""
    keras.utils.set_random_seed(0)
    model = UperNet(
        Variant("small", (1, 1, 1, 1), (8, 8, 8, 8)), classes=4, channels=8, auxiliary_channels=8
    )
    model.compile(
        keras.optimizers.Adam(0.01), PixelCrossEntropy(), metrics=fit_metrics(4), jit_compile="auto"
    )
    draw = np.random.default_rng(0)
    images = draw.integers(0, 256, (4, 32, 32, 3), "uint8")
    masks = (images[..., 0] // 64).astype("uint8")
    masks[:, :5] = 255
    history = model.fit(images, masks, batch_size=2, epochs=2, verbose=0).history
    return model, images, masks, history


# ---------------------------------------------------------------------------- equal to the peers


def test_every_part_equals_the_peers():
    model = build()
    names = {f"feature{n}": f"norm{n}" for n in range(4)}
    names |= {"head": "decode_head", "aux_head": "auxiliary_head", "logits": "logits"}
    outputs = {key: model.get_layer(name).output for key, name in names.items()}
    computed = keras.Model(model.input, outputs).predict_on_batch(expected()["input"])
    assert set(expected()) == {"input", *names}
    errors = {key: relative_error(np.asarray(computed[key]), expected()[key]) for key in names}
    assert max(errors.values()) < TOLERANCE, errors


@compiles_long
def test_called_without_training_it_returns_logits_alone():
    model, images, *_ = trained()
    logits = model(images)
    assert tuple(logits.shape) == (4, 32, 32, 4)
    both = model(images, training=True)
    assert {key: tuple(x.shape) for key, x in both.items()} == {
        "logits": (4, 32, 32, 4),
        "auxiliary": (4, 32, 32, 4),
    }


@compiles_long
def test_a_model_around_it_has_the_logits():
    """Built symbolically, and trained: the first of two outputs would be the auxiliary ones."""
    variant = Variant("small", (1, 1, 1, 1), (8, 8, 8, 8))
    model = UperNet(variant, classes=3, channels=8, auxiliary_channels=8, dropout=0.0)
    around = keras.Sequential([keras.Input((32, 32, 3)), keras.layers.Identity(), model])
    assert around.output_shape == (None, 32, 32, 3)
    images = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 3)).astype("float32")
    np.testing.assert_array_equal(numpy(around(images)), numpy(model(images)))
    logits = model(images, training=True)["logits"]
    np.testing.assert_array_equal(numpy(around(images, training=True)), numpy(logits))


@on_one_backend
@pytest.mark.parametrize("sides", [(1, 1), (4, 4), (5, 7), (6, 6), (13, 9)])
def test_pooling_is_that_of_pytorch(sides):
    import torch

    x = np.random.default_rng(0).standard_normal((2, *sides, 3)).astype("float32")
    for size in (1, 2, 3, 6):
        theirs = torch.nn.functional.adaptive_avg_pool2d(torch.tensor(x).movedim(-1, 1), size)
        ours = numpy(AdaptiveAveragePooling(size)(x))
        np.testing.assert_allclose(ours, theirs.movedim(1, -1).numpy(), atol=1e-6)


@on_one_backend
@pytest.mark.parametrize("row", checkpoints.rows(), ids=lambda row: row.name)
def test_parameters_are_those_of_the_paper(row):
    millions = {"tiny": 60, "small": 82, "base": 122, "large": 235, "xlarge": 391}  # Table 4
    with shapes_only():
        model = UperNet(row.variant, classes=row.classes)
        count = trained_parameters(model)
    assert count == row.params
    assert round(count / 1e6) == millions[row.variant.removeprefix("convnext_")]


FACTORIES = [name for name in segmentation.__all__ if re.match("UperNetConvNeXt", name)]


@on_one_backend
@pytest.mark.parametrize("name", FACTORIES)
def test_every_factory_is_of_the_variant_in_its_name(name):
    of_classifier = getattr(keras_convnext, name.removeprefix("UperNet"))
    with shapes_only():
        model = getattr(segmentation, name)(
            weights=None, classes=5, channels=8, auxiliary_channels=8
        )
        encoder = of_classifier(weights=None, include_top=False)
    shapes = {weight.shape for weight in model.weights}
    assert {weight.shape for weight in encoder.weights} <= shapes and len(FACTORIES) == 14
    assert (1, 1, 8, 5) in shapes  # the classes are passed on


@pytest.mark.skipif(BACKEND != "tensorflow", reason="other backends know all sizes")
def test_sizes_may_be_unknown_in_a_graph():
    import tensorflow as tf

    model = trained()[0]
    images = np.random.default_rng(0).uniform(0, 255, (1, 45, 38, 3)).astype("float32")
    signature = [tf.TensorSpec((None, None, None, 3))]
    logits = tf.function(lambda x: model(x), input_signature=signature)(images)
    np.testing.assert_allclose(logits, model.predict_on_batch(images), rtol=1e-4, atol=1e-4)


# ---------------------------------------------------------------------------- its files

TO_OPENMMLAB = (
    (r"backbone\.embeddings\.patch_embeddings", "backbone.downsample_layers.0.0"),
    (r"backbone\.embeddings\.layernorm", "backbone.downsample_layers.0.1"),
    (r"encoder\.stages\.(\d)\.downsampling_layer", r"downsample_layers.\1"),
    (r"encoder\.stages\.(\d)\.layers", r"stages.\1"),
    (r"hidden_states_norms\.stage1", "norm0"),
    (r"hidden_states_norms\.stage2", "norm1"),
    (r"hidden_states_norms\.stage3", "norm2"),
    (r"hidden_states_norms\.stage4", "norm3"),
    (r"layer_scale_parameter", "gamma"),
    (r"\.layernorm", ".norm"),
    (r"batch_norm", "bn"),
    (r"head\.classifier", "head.conv_seg"),
    (r"dwconv", "depthwise_conv"),
    (r"pwconv", "pointwise_conv"),
)
TO_META = (*TO_OPENMMLAB[:-2],)


def renamed(rules):
    """The golden file's tensors under the names of another publisher."""
    tensors = {}
    for name, array in load_file(FILE).items():
        for pattern, replacement in rules:
            name = re.sub(pattern, replacement, name)
        tensors[name] = np.ascontiguousarray(array)
    return tensors


META = renamed(TO_META)


def same(model):
    logits = np.asarray(model.predict_on_batch(expected()["input"]))
    return relative_error(logits, expected()["logits"]) < TOLERANCE


def test_meta_names_are_those_that_were_noted():
    noted = (
        r"backbone\.downsample_layers\.[0-3]\.[01]\.(weight|bias)",
        r"backbone\.stages\.[0-3]\.\d+\.(dwconv|norm|pwconv1|pwconv2)\.(weight|bias)",
        r"backbone\.stages\.[0-3]\.\d+\.gamma",
        r"backbone\.norm[0-3]\.(weight|bias)",
        r"(decode_head\.(psp_modules\.[0-3]\.1|bottleneck|(lateral|fpn)_convs\.[0-2]|fpn_bottleneck)"
        r"|auxiliary_head\.convs\.0)\."
        r"(conv\.weight|bn\.(weight|bias|running_mean|running_var|num_batches_tracked))",
        r"(decode_head|auxiliary_head)\.conv_seg\.(weight|bias)",
    )
    assert all(re.fullmatch("|".join(noted), name) for name in META)
    assert len(META) == len(load_file(FILE))


@on_one_backend
@pytest.mark.parametrize("rules", [TO_META, TO_OPENMMLAB], ids=["meta", "openmmlab"])
def test_files_of_every_publisher_load(rules, tmp_path):
    save_file(renamed(rules), tmp_path / "m.safetensors")
    assert same(build(tmp_path / "m.safetensors"))


@on_one_backend
def test_a_wrapped_file_loads(tmp_path):
    wrapped = {f"module._orig_mod.{name}": array for name, array in META.items()}
    save_file(wrapped, tmp_path / "m.safetensors")
    assert same(build(tmp_path / "m.safetensors"))


@on_one_backend
def test_a_training_checkpoint_of_meta_loads(tmp_path):
    import torch

    state = OrderedDict((name, torch.tensor(array)) for name, array in META.items())
    content = {
        "meta": {"CLASSES": ("wall", "sky"), "PALETTE": [[1, 2, 3]], "epoch": 1, "iter": 160000},
        "state_dict": state,
        "optimizer": {"state": {0: {"step": 1, "exp_avg": torch.zeros(2)}}, "param_groups": []},
        "amp": {"loss_scaler0": {"loss_scale": 65536.0, "unskipped": 1}},
    }
    torch.save(content, tmp_path / "upernet.pth")
    assert same(build(tmp_path / "upernet.pth"))


@on_one_backend
@pytest.mark.parametrize(
    "change, message",
    [
        (lambda t: t.pop("backbone.norm2.bias"), r"missing: backbone\.norm2\.bias"),
        (lambda t: t.pop("auxiliary_head.convs.0.bn.running_var"), r"missing: .*running_var"),
        (lambda t: t.pop("decode_head.conv_seg.weight"), r"missing: decode_head\.conv_seg\.weight"),
        (lambda t: t.update({"decode_head.odd.weight": np.ones(3, "float32")}), "unused: decode"),
        (
            lambda t: t.update({"decode_head.bottleneck.bn.bias": np.ones(3, "float32")}),
            "shape: decode_head.bottleneck.bn.bias",
        ),
        (
            lambda t: t.update({"backbone.norm0.bias": np.full(16, np.nan, "float32")}),
            "not finite: backbone.norm0.bias",
        ),
    ],
)
def test_what_does_not_fit_is_refused(change, message, tmp_path):
    tensors = dict(META)
    change(tensors)
    save_file(tensors, tmp_path / "m.safetensors")
    with pytest.raises(WeightsError, match=message):
        build(tmp_path / "m.safetensors")


def published_tiny(classes=150, width=512, auxiliary=256):
    """Names and shapes in Meta's file of a Tiny, from its architecture in PyTorch."""
    depths, dims = (3, 3, 9, 3), (96, 192, 384, 768)
    shapes = {}

    def with_bias(name, *shape):
        shapes.update({f"{name}.weight": shape, f"{name}.bias": shape[:1]})

    def conv_bn(name, *shape):
        shapes[f"{name}.conv.weight"] = shape
        with_bias(f"{name}.bn", shape[0])
        shapes.update({f"{name}.bn.running_{part}": shape[:1] for part in ("mean", "var")})
        shapes[f"{name}.bn.num_batches_tracked"] = ()

    with_bias("backbone.downsample_layers.0.0", dims[0], 3, 4, 4)
    with_bias("backbone.downsample_layers.0.1", dims[0])
    for stage, (depth, dim) in enumerate(zip(depths, dims, strict=True)):
        if stage > 0:
            with_bias(f"backbone.downsample_layers.{stage}.0", dims[stage - 1])
            with_bias(f"backbone.downsample_layers.{stage}.1", dim, dims[stage - 1], 2, 2)
        for number in range(depth):
            block = f"backbone.stages.{stage}.{number}"
            shapes[f"{block}.gamma"] = (dim,)
            with_bias(f"{block}.dwconv", dim, 1, 7, 7)
            with_bias(f"{block}.norm", dim)
            with_bias(f"{block}.pwconv1", 4 * dim, dim)
            with_bias(f"{block}.pwconv2", dim, 4 * dim)
        with_bias(f"backbone.norm{stage}", dim)
    for number in range(4):
        conv_bn(f"decode_head.psp_modules.{number}.1", width, dims[3], 1, 1)
    conv_bn("decode_head.bottleneck", width, dims[3] + 4 * width, 3, 3)
    for number in range(3):
        conv_bn(f"decode_head.lateral_convs.{number}", width, dims[number], 1, 1)
        conv_bn(f"decode_head.fpn_convs.{number}", width, width, 3, 3)
    conv_bn("decode_head.fpn_bottleneck", width, 4 * width, 3, 3)
    with_bias("decode_head.conv_seg", classes, width, 1, 1)
    conv_bn("auxiliary_head.convs.0", auxiliary, dims[2], 3, 3)
    with_bias("auxiliary_head.conv_seg", classes, auxiliary, 1, 1)
    return shapes


@on_one_backend
@pytest.mark.parametrize(
    "change, message",
    [
        ({}, None),
        ({"backbone.norm3.bias": None}, r"missing: backbone\.norm3\.bias"),
        ({"decode_head.fpn_convs.3.conv.weight": (512, 512, 3, 3)}, "unused: decode_head.fpn"),
        ({"auxiliary_head.convs.0.conv.weight": (256, 384, 1, 1)}, r"shape: auxiliary_head\.convs"),
    ],
)
def test_the_released_names_and_shapes_load(change, message, tmp_path):
    """In a Tiny with 150 classes; in the file its tensors of zeros share their numbers."""
    import torch

    shapes = {name: s for name, s in {**published_tiny(), **change}.items() if s is not None}
    zeros = torch.zeros(max(map(math.prod, shapes.values())))
    tensors = {name: zeros[: math.prod(shape)].view(shape) for name, shape in shapes.items()}
    torch.save({"state_dict": tensors}, tmp_path / "tiny.pth")
    if message:
        with pytest.raises(WeightsError, match=message):
            UperNetConvNeXtTiny(weights=tmp_path / "tiny.pth")
        return
    model = UperNetConvNeXtTiny(weights=tmp_path / "tiny.pth")
    assert not any(numpy(weight).any() for weight in model.weights if "seed" not in weight.path)


@compiles_long
def test_a_model_comes_back_from_its_own_files(tmp_path):
    model, images, *_ = trained()
    logits = np.asarray(model.predict_on_batch(images))
    model.save(tmp_path / "m.keras")
    again = keras.saving.load_model(tmp_path / "m.keras")
    assert isinstance(again, SegmentationModel)
    assert list(again.pyramid_outputs) == ["P2", "P3", "P4", "P5"]
    np.testing.assert_allclose(np.asarray(again.predict_on_batch(images)), logits, atol=1e-5)
    fresh = UperNet(
        Variant("small", (1, 1, 1, 1), (8, 8, 8, 8)),
        weights=tmp_path / "m.keras",
        channels=8,
        auxiliary_channels=8,
    )
    np.testing.assert_allclose(np.asarray(fresh.predict_on_batch(images)), logits, atol=1e-5)


@on_one_backend
@pytest.mark.parametrize("layout", ["official", "mmsegmentation", "transformers"])
def test_a_published_file_comes_out_as_it_went_in(layout, tmp_path):
    rules = {"official": TO_META, "mmsegmentation": TO_OPENMMLAB, "transformers": ()}[layout]
    save_weights(build(), VARIANT, tmp_path / "m.safetensors", layout)
    found, original = load_file(tmp_path / "m.safetensors"), renamed(rules)
    assert set(found) == set(original)
    counts = {name for name in found if name.endswith(".num_batches_tracked")}
    assert counts and not any(found[name].any() for name in counts)
    for name in set(found) - counts:
        assert found[name].tobytes() == original[name].tobytes(), name
        assert found[name].shape == original[name].shape
    with pytest.raises(ValueError, match="`layout` must be one of .*'mmsegmentation'"):
        save_weights(build(), VARIANT, tmp_path / "m.safetensors", "timm")


@on_one_backend
def test_the_commands_know_a_file_by_its_tensors(tmp_path, capsys, monkeypatch):
    """What is on the ConvNeXt, and the widths of that."""
    monkeypatch.setitem(VARIANTS, "golden", VARIANT)
    there = tmp_path / "m.safetensors"
    flags = ("--variant", "golden", "--json")
    assert cli.main(["convert", str(FILE), str(there), "--layout", "mmsegmentation", *flags]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["layout"], report["variant"]) == ("mmsegmentation", "golden")
    assert cli.main(["verify", str(there), *flags]) == 0
    classes = build().get_layer("decode_head").classes
    assert json.loads(capsys.readouterr().out)["classes"] == report["classes"] == classes
    flags = ("--layout", "timm", "--variant", "golden", "--force")
    assert cli.main(["convert", str(FILE), str(there), *flags]) == 2
    assert "an UperNet is official or mmsegmentation or transformers" in capsys.readouterr().err


@on_one_backend
def test_another_number_of_classes_keeps_the_rest():
    model = build(classes=3)
    kernel = model.get_layer("decode_head").classifier.kernel
    assert kernel.shape[-1] == 3 and np.std(numpy(kernel)) == pytest.approx(0.01, rel=0.5)
    assert np.std(numpy(model.get_layer("auxiliary_head").conv0.conv.kernel)) > 0


@on_one_backend
@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"variant": "convnext_isotropic_small"}, "choose a variant of four stages"),
        ({"variant": "convnext_huge"}, "`variant` must be one of"),
        ({"weights": "ade20k", "backbone_weights": "fb_in1k"}, "pass one of them"),
        ({"weights": "nonsense"}, "Published for convnext_tiny: fb_in1k_ft_ade20k_512, mm_in1k"),
        (
            {"variant": "convnextv2_tiny", "weights": "ade20k"},
            "No UperNet weights of convnextv2_tiny were published; use weights=None",
        ),
        ({"classes": 0}, "`classes` must be an integer >= 1, received 0"),
        ({"dropout": 1.0}, r"`dropout` must be a number in \[0, 1\)"),
        ({"weights": "nowhere.pth"}, "No file of weights"),
        ({"include_preprocessing": "ade20k"}, r"UperNet\('convnext_tiny', weights='ade20k'\)"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        UperNet(**{"variant": "convnext_tiny", **arguments})


@on_one_backend
def test_factories_take_arguments_as_the_classifiers_do(monkeypatch):
    """In the same order; the published weights by default, unless the backbone's are given."""
    orders = [list(inspect.signature(f).parameters) for f in (UperNetConvNeXtTiny, ConvNeXtTiny)]
    shared = [[name for name in order if name in orders[1]] for order in orders]
    assert shared[0] == [name for name in shared[1] if name in orders[0]]
    assert inspect.signature(UperNetConvNeXtTiny).parameters["weights"].default == "ade20k"
    call = r"`UperNetConvNeXtTiny\(weights='ade20k'\)`"
    with pytest.raises(ValueError, match=call):
        UperNetConvNeXtTiny("ade20k")
    given = []
    record = functools.wraps(UperNet)(lambda variant, **arguments: given.append(arguments))
    monkeypatch.setattr(upernets, "UperNet", record)
    factory = upernets._factory("UperNetConvNeXtTiny", "convnext_tiny")
    factory(classes=3)
    factory(backbone_weights="fb_in1k")
    factory(True, None)
    assert given == [
        {"classes": 3, "weights": "ade20k"},
        {"backbone_weights": "fb_in1k"},
        {"include_preprocessing": True, "weights": None},
    ]


def test_names_of_checkpoints():
    assert len({row.name for row in checkpoints.rows()}) == len(checkpoints.rows()) == 12
    assert checkpoints.find("ade20k", "convnext_base").tag == "fb_in22k_ft_ade20k_640"
    assert checkpoints.find("upernet_convnext_tiny").tag == "fb_in1k_ft_ade20k_512"
    row = checkpoints.find("upernet_convnext_small.mm_in1k_ft_ade20k_512")
    assert (row.mean_iou, row.size, row.sources[0].repo) == (
        48.56,
        512,
        "openmmlab/upernet-convnext-small",
    )
    names = checkpoints.class_names("ade20k")
    assert len(set(names)) == 150 and names[:2] == ("wall", "building") and names[-1] == "flag"


# ---------------------------------------------------------------------------- its training


@compiles_long
def test_it_learns_with_fit():
    model, images, masks, history = trained()
    assert history["loss"][-1] < history["loss"][0]
    assert set(history) == {"loss", "pixel_accuracy", "mean_iou"}
    metrics = model.evaluate(images, masks, verbose=0, return_dict=True)
    predicted = np.asarray(model.predict_on_batch(images)).argmax(-1)
    valid = masks != 255
    assert metrics["pixel_accuracy"] == pytest.approx((predicted == masks)[valid].mean())
    assert 0 <= metrics["mean_iou"] <= 1


def test_the_auxiliary_loss_is_added(monkeypatch):
    """What regularizes the weights counts once."""
    model, images, masks, _ = trained()
    kernel = model.get_layer("decode_head").classifier.kernel
    monkeypatch.setattr(kernel, "regularizer", keras.regularizers.L2(10.0))
    penalty = 10 * (numpy(kernel) ** 2).sum()
    assert penalty > 0.01
    outputs = {key: keras.ops.zeros((4, 32, 32, 4)) for key in ("logits", "auxiliary")}
    one, both = (
        float(numpy(model.compute_loss(images, masks, y))) for y in (outputs["logits"], outputs)
    )
    assert one == pytest.approx(math.log(4) + penalty, rel=1e-5)
    assert both == pytest.approx(1.4 * math.log(4) + penalty, rel=1e-5)


def test_batch_normalization_is_as_published():
    bn = trained()[0].get_layer("decode_head").bottleneck.bn
    assert (bn.epsilon, bn.momentum, bn.synchronized) == (1e-5, 0.9, BACKEND == "tensorflow")
    assert np.abs(numpy(bn.moving_mean)).max() > 0


def test_whole_channels_are_dropped():
    x = np.ones((64, 3, 2, 50), "float32")
    dropped = numpy(ChannelDropout(0.25, seed=0)(x, training=True))
    np.testing.assert_array_equal(dropped, np.broadcast_to(dropped[:, :1, :1], x.shape))
    assert set(np.unique(dropped).round(5)) == {0, np.float32(4 / 3).round(5)}
    assert (dropped == 0).mean() == pytest.approx(0.25, abs=0.03)
    np.testing.assert_array_equal(numpy(ChannelDropout(0.25)(x)), x)


def test_batch_normalization_survives_large_means():
    """On PyTorch Keras' own makes NaN of these."""
    x = 300 + 0.01 * np.random.default_rng(0).standard_normal((1, 3, 3, 64)).astype("float32")
    layer = ConvNormReLU(4, 1).bn
    centred = x - x.astype("float64").mean((0, 1, 2))
    expected = centred / np.sqrt((centred**2).mean((0, 1, 2)) + 1e-5)
    np.testing.assert_allclose(numpy(layer(x, training=True)), expected, atol=0.02)


@pytest.mark.parametrize("average", ["valid", "all"])
def test_the_loss_in_numpy(average):
    draw = np.random.default_rng(0)
    logits = draw.standard_normal((2, 3, 5, 4)).astype("float32")
    labels = draw.integers(0, 4, (2, 3, 5))
    labels[0, :2] = 255
    shifted = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    losses = -np.take_along_axis(shifted, labels[..., None] % 4, -1)[..., 0] * (labels != 255)
    count = (labels != 255).sum() if average == "valid" else labels.size
    loss = float(numpy(PixelCrossEntropy(average)(labels, logits)))
    assert loss == pytest.approx(losses.sum() / count, rel=1e-5)
    if average == "valid":  # what Keras calls the same
        theirs = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=255)
        assert loss == pytest.approx(float(numpy(theirs(labels, logits))), rel=1e-5)


@pytest.mark.parametrize("average", ["valid", "all"])
def test_a_batch_without_labels_has_a_loss_of_zero(average):
    labels = np.full((1, 2, 2), 255, "uint8")
    loss = PixelCrossEntropy(average)(labels, np.ones((1, 2, 2, 3), "float32"))
    assert float(numpy(loss)) == 0


@pytest.mark.parametrize("label", [3, 254, -1])
def test_a_label_out_of_range_is_not_learned(label):
    labels = np.array([[[0, label]]])
    loss = PixelCrossEntropy()(labels, np.ones((1, 1, 2, 3), "float32"))
    assert np.isnan(float(numpy(loss)))


def test_masks_of_another_size_are_refused():
    with pytest.raises(ValueError, match=r"Masks must be \(batch, 4, 4\)"):
        PixelCrossEntropy()(np.zeros((1, 3, 4), "uint8"), np.ones((1, 4, 4, 3), "float32"))
    with pytest.raises(ValueError, match="`average` must be one of"):
        PixelCrossEntropy("mean")


@pytest.fixture
def mixed():
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    yield
    keras.config.set_dtype_policy(before)


@on_one_backend
def test_mixed_precision_keeps_logits_in_float32(mixed):
    model = UperNet(
        Variant("small", (1, 1, 1, 1), (8, 8, 8, 8)), classes=3, channels=8, auxiliary_channels=8
    )
    logits = model(np.zeros((1, 40, 33, 3)))
    assert keras.backend.standardize_dtype(logits.dtype) == "float32"
    assert model.get_layer("decode_head").bottleneck.compute_dtype == "bfloat16"
