"""ConvNeXts as models of KerasHub: equal to ours, and all that KerasHub does with its own."""

import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path

import huggingface_hub.constants
import keras
import numpy as np
import pytest
import safetensors.numpy

import keras_convnext
from keras_convnext import Classifier, ConvNeXt, Variant, segmentation
from keras_convnext.predictions import probabilities
from keras_convnext.preprocessing import EvalTransform
from keras_convnext.pretrained import find
from keras_convnext.variants import IMAGENET_MEAN, IMAGENET_STD
from tests import hub_server
from tests.backends import BACKEND, numpy, on_one_backend, randomise
from tests.test_resolve import TEST, home, put_by_hand, unhashed  # noqa: F401

pytest.importorskip("keras_hub", reason="installed apart, see the Makefile")

import keras_hub  # noqa: E402

from keras_convnext.keras_hub import (  # noqa: E402
    ConvNeXtBackbone,
    ConvNeXtImageClassifier,
    ConvNeXtImageClassifierPreprocessor,
    ConvNeXtImageConverter,
    UperNetImageSegmenter,
    UperNetImageSegmenterPreprocessor,
)

# what Keras and KerasHub say about their own datasets and optimizers
pytestmark = pytest.mark.filterwarnings(
    "ignore::UserWarning:keras", "ignore:__array__:DeprecationWarning"
)

TINY = Variant("tiny", (1, 1, 1, 1), (8, 8, 8, 8), layer_scale=None)
FLAT = dataclasses.replace(TINY, name="flat", head_norm_first=True, head_hidden=6, head_bias=False)
NAME = "test_convnext.r160_in1k"
PHOTO = np.random.default_rng(1).integers(0, 256, (50, 70, 3), "uint8")


def normalised(pixels, mean=IMAGENET_MEAN, std=IMAGENET_STD):
    return (pixels / 255 - np.array(mean)) / np.array(std)


def classifier(variant=TINY, size=32, **arguments):
    converter = ConvNeXtImageConverter((size, size), crop_pct=0.875)
    preprocessor = ConvNeXtImageClassifierPreprocessor(converter)
    model = ConvNeXtImageClassifier(ConvNeXtBackbone(variant), 3, preprocessor, **arguments)
    return randomise(model)


def segmenter():
    preprocessor = UperNetImageSegmenterPreprocessor(ConvNeXtImageConverter())
    return UperNetImageSegmenter(
        ConvNeXtBackbone(TINY), 3, preprocessor, channels=4, auxiliary_channels=4
    )


def by_path(model):
    return {weight.path: numpy(weight) for weight in model.weights}


def same_weights(a, b):
    a, b = by_path(a), by_path(b)
    assert a.keys() == b.keys()
    for path in a:
        np.testing.assert_array_equal(a[path], b[path])


# ---------------------------------------------------------------- equal to ours


@pytest.mark.parametrize("variant", [TINY, FLAT], ids=lambda variant: variant.name)
def test_the_classifier_is_that_of_convnext(variant):
    theirs = classifier(variant, activation="softmax")
    ours = ConvNeXt(variant, input_shape=(32, 32, 3), classes=3)
    for weight in ours.weights:
        weight.assign(by_path(theirs)[weight.path])
    pixels = EvalTransform(32, crop_pct=0.875)(PHOTO)[None]
    np.testing.assert_allclose(
        theirs.predict_on_batch(PHOTO[None]), ours.predict_on_batch(pixels), atol=1e-6
    )


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_the_backbone_has_the_outputs_of_the_stages(data_format):
    backbone = ConvNeXtBackbone(TINY, output_stride=16, data_format=data_format)
    assert keras.config.image_data_format() == "channels_last"  # as before
    first = data_format == "channels_first"
    shape = (1, 3, 64, 33) if first else (1, 64, 33, 3)
    outputs = keras.Model(backbone.input, backbone.pyramid_outputs)(np.zeros(shape, "float32"))
    sides = {"P2": (16, 8), "P3": (8, 4), "P4": (4, 2)}
    assert {k: tuple(v.shape[1:]) for k, v in outputs.items()} == {
        level: (8, *side) if first else (*side, 8) for level, side in sides.items()
    }
    assert backbone.output is backbone.pyramid_outputs["P4"]
    again = ConvNeXtBackbone.from_config(backbone.get_config())
    assert again.get_config() == backbone.get_config() and again.variant == TINY


@pytest.mark.parametrize(
    "transform",
    [
        EvalTransform(32, crop_pct=0.875),
        EvalTransform(24, resize="squash", interpolation="bilinear"),
        EvalTransform(32, resize_size=36),
    ],
    ids=["crop", "squash", "size"],
)
def test_the_converter_is_the_evaluation_transform(transform):
    converter = ConvNeXtImageConverter(
        (transform.size,) * 2,
        crop_to_aspect_ratio=transform.resize == "shortest",
        crop_pct=transform.crop_pct,
        resize_size=transform.resize_size,
        interpolation=transform.interpolation,
    )
    assert converter.transform() == transform
    expected = normalised(transform(PHOTO))
    again = ConvNeXtImageConverter.from_config(converter.get_config())
    for source in (PHOTO, PHOTO.astype("int64"), PHOTO.astype("float32")):
        np.testing.assert_allclose(numpy(again(source)), expected, atol=1e-6)
    batch = converter(np.stack([PHOTO, 255 - PHOTO]))
    np.testing.assert_allclose(numpy(batch[0]), expected, atol=1e-6)
    different = converter([PHOTO, PHOTO[:40]])
    np.testing.assert_allclose(numpy(different[0]), expected, atol=1e-6)
    assert different[1].shape == expected.shape


def test_the_converter_is_the_same_in_tf_data():
    import tensorflow as tf

    converter = ConvNeXtImageConverter((32, 32), crop_pct=0.875)
    preprocessor = ConvNeXtImageClassifierPreprocessor(converter)
    data = tf.data.Dataset.from_tensor_slices((PHOTO[None], [1]))
    expected = normalised(EvalTransform(32, crop_pct=0.875)(PHOTO))
    for dataset in (data, data.batch(1)):
        mapped = dataset.map(preprocessor)
        assert mapped.element_spec[0].shape[-3:] == (32, 32, 3)
        images, label = mapped.get_single_element()
        np.testing.assert_allclose(np.reshape(images, (32, 32, 3)), expected, atol=1e-6)
        assert np.squeeze(label) == 1


def test_images_of_any_size_are_normalised_alone():
    whole = ConvNeXtImageConverter()(PHOTO)
    np.testing.assert_allclose(numpy(whole), normalised(PHOTO), atol=1e-6)


@pytest.mark.skipif(BACKEND == "tensorflow", reason="has no such convolutions on processors")
def test_channels_first():
    model = classifier()
    expected = model.predict_on_batch(PHOTO[None])
    keras.config.set_image_data_format("channels_first")
    try:
        first = classifier()
    finally:
        keras.config.set_image_data_format("channels_last")
    found = first.predict_on_batch(np.moveaxis(PHOTO, -1, 0)[None])
    np.testing.assert_allclose(found, expected, atol=1e-6)


# ---------------------------------------------------------------- presets


@pytest.fixture
def server(home, monkeypatch, tmp_path):  # noqa: F811
    """A hub that has the weights of `NAME`, and what a test puts there."""
    row = unhashed(monkeypatch, NAME)
    safetensors.numpy.save_file(TEST, tmp_path / "made.safetensors")
    monkeypatch.delenv("KERAS_CONVNEXT_OFFLINE")
    with hub_server.hub() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.address)
        # what KerasHub's own requests take; the library makes it when it is imported
        template = hub.address + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        body = (tmp_path / "made.safetensors").read_bytes()
        for repo in (row.sources[0].repo, "someone/tuned"):
            serve(hub, repo, "model.safetensors", body)
        yield hub


def serve(hub, repo, file, body):
    for revision in ("main", hub_server.COMMIT):
        hub.files[f"/{repo}/resolve/{revision}/{file}"] = body


@pytest.mark.filterwarnings("ignore::keras_convnext.pretrained.download.FirstUseNotice")
def test_a_published_name_answers_as_our_classifier(server):
    theirs = ConvNeXtImageClassifier.from_preset(NAME)
    expected = Classifier(NAME).probabilities([PHOTO])
    logits = theirs.predict(PHOTO[None], verbose=0)
    np.testing.assert_allclose(probabilities(logits, "softmax"), expected, atol=1e-6)
    assert theirs.preprocessor.image_converter.transform() == find(NAME).transform()
    assert NAME in ConvNeXtBackbone.presets and NAME in ConvNeXtImageClassifier.presets
    backbone = ConvNeXtBackbone.from_preset("test_convnext", dtype="bfloat16")
    assert {weight.dtype for weight in backbone.weights} == {"bfloat16"}
    for address in (f"hf://{find(NAME).sources[0].repo}", "hf://someone/tuned"):
        same_weights(ConvNeXtBackbone.from_preset(address), theirs.backbone)
    tuned = ConvNeXtImageClassifier.from_preset(NAME, num_classes=5, drop_path_rate=0.1)
    assert tuned.backbone.drop_path_rate == 0.1
    same_weights(tuned.backbone, theirs.backbone)
    np.testing.assert_array_equal(
        numpy(tuned.get_layer("head_norm").gamma), TEST["head.norm.weight"]
    )
    head = tuned.get_layer("head")
    assert head.kernel.shape[-1] == 5 and 0.01 < numpy(head.kernel).std() < 0.03
    masks = UperNetImageSegmenter.from_preset(NAME, num_classes=2, channels=4, auxiliary_channels=4)
    same_weights(masks.backbone, theirs.backbone)
    assert masks.preprocessor.image_size is None  # masks have the images' own size
    with pytest.raises(ValueError, match="no UperNet: pass `num_classes=`"):
        UperNetImageSegmenter.from_preset(NAME)


def test_a_preset_on_the_hub_and_without_weights(server, tmp_path):
    model = classifier()
    model.save_to_preset(tmp_path / "preset")
    for file in (tmp_path / "preset").iterdir():
        serve(server, "someone/preset", file.name, file.read_bytes())
    again = ConvNeXtImageClassifier.from_preset("hf://someone/preset")
    same_weights(again, model)
    before = len(server.requests)
    random = ConvNeXtBackbone.from_preset(NAME, load_weights=False)
    assert len(server.requests) == before and random.variant == find(NAME).architecture()


def test_a_folder_is_read_by_our_classes_and_keras_hubs(tmp_path):
    model, folder = classifier(dropout=0.1), str(tmp_path / "preset")
    model.save_to_preset(folder)
    expected = model.predict_on_batch(PHOTO[None])
    assert json.loads((tmp_path / "preset" / "metadata.json").read_text())["tasks"] == [
        "ImageClassifier",
        "ImageSegmenter",
    ]
    for kind in (ConvNeXtImageClassifier, keras_hub.models.ImageClassifier):
        again = kind.from_preset(folder)
        assert type(again) is ConvNeXtImageClassifier and again.dropout == 0.1
        np.testing.assert_array_equal(again.predict_on_batch(PHOTO[None]), expected)
    backbone = keras_hub.models.Backbone.from_preset(folder)
    same_weights(backbone, model.backbone)
    converter = keras_hub.layers.ImageConverter.from_preset(folder, image_size=(40, 40))
    assert converter.transform() == EvalTransform(40, crop_pct=0.875)
    masks = UperNetImageSegmenter.from_preset(
        folder, num_classes=2, channels=4, auxiliary_channels=4
    )
    assert masks.preprocessor.image_size is None
    same_weights(masks.backbone, model.backbone)
    narrow = ConvNeXtImageClassifier.from_preset(folder, num_classes=2)
    assert narrow.output_shape == (None, 2)
    same_weights(narrow.backbone, model.backbone)


@pytest.mark.parametrize("policy", ["bfloat16", "mixed_bfloat16"])
def test_a_policy_is_that_of_every_layer(policy, tmp_path):
    model = classifier()
    model.save_to_preset(tmp_path)
    cast = ConvNeXtImageClassifier.from_preset(tmp_path, dtype=policy)
    policy = keras.dtype_policies.get(policy)
    assert keras.config.dtype_policy().name == "float32"  # as before
    assert {weight.dtype for weight in cast.weights} == {policy.variable_dtype}
    assert cast.backbone.output.dtype == "bfloat16"
    layers = [layer for layer in cast.backbone._flatten_layers() if layer.weights]
    assert {layer.compute_dtype for layer in layers} == {"bfloat16"}
    found = np.asarray(cast.predict_on_batch(PHOTO[None]), "float32")
    cast.save_to_preset(tmp_path / "again")
    again = keras_hub.models.ImageClassifier.from_preset(str(tmp_path / "again"), dtype=None)
    # as KerasHub has it: plain floats are read in Keras' own policy, others as they were saved
    expected = policy.name if policy.name == "mixed_bfloat16" else "float32"
    assert again.backbone.dtype_policy.name == expected
    # 8 bits of mantissa in some twenty layers
    np.testing.assert_allclose(found, model.predict_on_batch(PHOTO[None]), rtol=0.1, atol=0.05)


def test_the_segmenter_is_upernet(tmp_path):
    model = randomise(segmenter())
    ours = segmentation.UperNet(TINY, classes=3, channels=4, auxiliary_channels=4)
    for weight in ours.weights:
        weight.assign(by_path(model)[weight.path])
    expected = ours.predict_on_batch(PHOTO[None].astype("float32"))
    np.testing.assert_allclose(model.predict_on_batch(PHOTO[None]), expected, atol=1e-5)
    np.testing.assert_array_equal(
        segmentation.Segmenter(model)(PHOTO), segmentation.Segmenter(ours)(PHOTO)
    )
    model.save_to_preset(tmp_path)
    again = keras_hub.models.ImageSegmenter.from_preset(str(tmp_path))
    same_weights(again, model)
    outputs = again(np.zeros((1, 32, 32, 3), "float32"), training=True)
    assert list(outputs) == ["logits", "auxiliary"]


# ---------------------------------------------------------------- what is refused


def test_names_that_stand_for_no_preset(home):  # noqa: F811
    for load, message in (
        (lambda: ConvNeXtBackbone.from_preset("convnext_tinny"), "Nearest: .* such a name, the"),
        (lambda: ConvNeXtImageClassifier.from_preset(3), "a name, a path or an address, received"),
        (lambda: ConvNeXtImageClassifier.from_preset("mask_rcnn_convnext_tiny"), "for detection"),
        (lambda: ConvNeXtImageClassifier.from_preset("convnextv2_atto.fcmae"), "`num_classes=`"),
        (lambda: ConvNeXtImageClassifier.from_preset("convnext_base.clip_laion2b"), "num_classes"),
        (lambda: ConvNeXtBackbone.from_preset("s3x://a/b"), "KerasHub cannot read the preset s3x"),
    ):
        with pytest.raises(ValueError, match=message):
            load()


@on_one_backend
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "config.json").unlink(), "no config.json"),
        (lambda folder: (folder / "config.json").write_text("{"), "cannot read .*Expecting"),
        (lambda folder: (folder / "config.json").write_text("[]"), "cannot read the preset"),
        (lambda folder: (folder / "task.json").write_text("{}"), "Needed is what `save_to_preset`"),
        (lambda folder: (folder / "task.weights.h5").write_bytes(b"no"), "cannot read the preset"),
        (lambda folder: (folder / "model.weights.h5").unlink(), "cannot read the preset"),
    ],
)
def test_damaged_folders(damage, message, tmp_path):
    classifier().save_to_preset(tmp_path)
    damage(tmp_path)
    with pytest.raises(ValueError, match=message):
        ConvNeXtImageClassifier.from_preset(tmp_path)


@on_one_backend
def test_nothing_in_a_preset_is_executed(tmp_path):
    classifier().save_to_preset(tmp_path)
    ran = tmp_path / "ran"
    task = json.loads((tmp_path / "task.json").read_text())
    config = json.loads((tmp_path / "config.json").read_text())
    system = {"module": "os", "class_name": "system", "config": f"touch {ran}"}
    code = {"class_name": "__lambda__", "config": {"value": "4wEA", "defaults": None}}
    mark = {"module": "keras.layers", "class_name": "Lambda", "config": {"function": code}}
    for evil in (system, mark, system | {"registered_name": "os>system"}):
        for file, content, field in (
            ("task.json", task, "activation"),
            ("task.json", task, "preprocessor"),
            ("config.json", config, "variant"),
        ):
            changed = content | {"config": content["config"] | {field: evil}}
            (tmp_path / file).write_text(json.dumps(changed))
            kind = ConvNeXtImageClassifier if file == "task.json" else ConvNeXtBackbone
            with pytest.raises(ValueError, match="cannot read the preset"):
                kind.from_preset(tmp_path)
            (tmp_path / file).write_text(json.dumps(content))
    (tmp_path / "config.json").write_text(json.dumps(config | system))
    with pytest.raises(ValueError, match="cannot read the preset"):
        ConvNeXtBackbone.from_preset(tmp_path)
    assert not ran.exists()


@on_one_backend
def test_another_models_preset_is_refused(tmp_path):
    other = keras_hub.models.VGGBackbone([1, 1], [4, 4], image_shape=(32, 32, 3))
    other.save_to_preset(tmp_path)
    for kind in (ConvNeXtBackbone, ConvNeXtImageClassifier):
        with pytest.raises(ValueError, match="VGGBackbone"):
            kind.from_preset(tmp_path)


def test_arguments_that_do_not_fit():
    backbone = ConvNeXtBackbone(TINY)
    for build, message in (
        (lambda: ConvNeXtBackbone(TINY, dtype="int8_from_float32"), "policy of floats"),
        (lambda: ConvNeXtBackbone(TINY, data_format="nchw"), "data_format"),
        (lambda: ConvNeXtBackbone("convnxt_tiny"), "Nearest"),
        (lambda: ConvNeXtImageClassifier(backbone, 0), "`num_classes` must be"),
        (lambda: ConvNeXtImageClassifier(backbone, 2, pooling="sum"), "`pooling` must be one of"),
        (lambda: Classifier(classifier()), "its `predict` takes them as they are"),
        (lambda: ConvNeXtImageConverter((32, 48)), "must be a square"),
        (lambda: ConvNeXtImageConverter((32, 32), antialias=False), "with antialiasing"),
        (lambda: ConvNeXtImageConverter((32, 32), crop_pct=2), "`crop_pct` must be"),
        (lambda: ConvNeXtImageConverter((32, 32))({"images": PHOTO}), "takes images alone"),
        (lambda: ConvNeXtImageConverter((32, 32))(PHOTO / 255), r"\[0, 255\]"),
        (lambda: UperNetImageSegmenterPreprocessor(resize_output_mask=True), "resize images and"),
    ):
        with pytest.raises(ValueError, match=message):
            build()


# ---------------------------------------------------------------- imports


@on_one_backend
def test_only_our_package_for_it_imports_keras_hub():
    library = Path(keras_convnext.__file__).parent
    importing = {
        path.relative_to(library).parts[0]
        for path in library.rglob("*.py")
        if re.search(r"^\s*(import|from) keras_hub\b", path.read_text("utf-8"), re.M)
    }
    assert importing == {"keras_hub"}


@pytest.mark.slow
@on_one_backend
def test_folders_are_read_after_our_package_was_imported_which_says_what_it_needs(tmp_path):
    classifier().save_to_preset(tmp_path)
    code = f"""
import sys
import keras_convnext
from keras_convnext import ConvNeXt, Classifier, detection, segmentation
segmentation.UperNet, dir(keras_convnext)
assert not {{"keras_hub", "keras_convnext.keras_hub"}} & set(sys.modules)
sys.modules["keras_hub"] = None
try:
    keras_convnext.keras_hub
except ModuleNotFoundError as error:
    print(error)
del sys.modules["keras_hub"]
import keras_hub
assert "keras_convnext.keras_hub" not in sys.modules
print(type(keras_hub.models.ImageClassifier.from_preset({str(tmp_path)!r})).__name__)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    said, kind = done.stdout.splitlines()
    assert 'pip install "keras-convnext[keras-hub]"' in said, done.stderr
    assert kind == "ConvNeXtImageClassifier", done.stderr
