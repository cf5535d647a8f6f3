"""Pyramid features: what other people's heads read from a ConvNeXt."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_convnext import ConvNeXt, PyramidModel, Variant, feature_model
from keras_convnext.augmentation import augmented
from tests.backends import numpy, proven_on_one, randomise

TINY = Variant("tiny", (1, 1, 2, 1), (8, 12, 16, 20))
SIDES = (96, 67)  # 67 is odd on all levels


def encoder(**arguments):
    return ConvNeXt(TINY, **{"include_top": False, "input_shape": (None, None, 3), **arguments})


def images(height=SIDES[0], width=SIDES[1]):
    return np.random.default_rng(0).uniform(0, 255, (1, height, width, 3)).astype("float32")


def shapes(model):
    return {level: tuple(output.shape[1:]) for level, output in model.pyramid_outputs.items()}


def test_every_hierarchical_model_answers():
    fixed = {"P2": (24, 16, 8), "P3": (12, 8, 12), "P4": (6, 4, 16), "P5": (3, 2, 20)}
    assert shapes(encoder(input_shape=(*SIDES, 3))) == fixed
    assert shapes(encoder(include_top=True, input_shape=(*SIDES, 3), classes=2)) == fixed
    assert shapes(encoder()) == {level: (None, None, dim) for level, (*_, dim) in fixed.items()}


def test_stages_that_share_a_stride_are_one_level():
    sides = {"input_shape": (64, 64, 3)}
    assert shapes(encoder(output_stride=8, **sides)) == {"P2": (16, 16, 8), "P3": (8, 8, 20)}
    assert shapes(encoder(output_stride=16, **sides)) == {
        "P2": (16, 16, 8),
        "P3": (8, 8, 12),
        "P4": (4, 4, 20),
    }


def test_levels_count_the_stem_too():
    for fields, levels in {
        "overlap": ({"stem": "overlap"}, ["P2", "P3"]),
        "pixels": ({"stem_stride": 1}, ["P0", "P1"]),
    }.values():
        assert list(ConvNeXt(Variant("v", (1, 1), (8, 8), **fields)).pyramid_outputs) == levels
    isotropic = Variant("isotropic", (2,), (8,), stem_stride=16, stem_norm=False)
    assert list(ConvNeXt(isotropic).pyramid_outputs) == ["P4"]
    odd = ConvNeXt(Variant("odd", (2,), (8,), stem_stride=14), input_shape=(28, 28, 3))
    assert not hasattr(odd, "pyramid_outputs")  # 14 is no power of two


def test_copies_answer_too(tmp_path):
    model = encoder()
    model.save(tmp_path / "encoder.keras")
    copies = (
        keras.saving.load_model(tmp_path / "encoder.keras"),
        keras.models.clone_model(model),
        augmented(model),
    )
    for copy in copies:
        assert isinstance(copy, PyramidModel)
        assert shapes(copy) == shapes(model)


def test_the_features_are_those_of_the_blocks():
    model = randomise(encoder())
    x = images()
    maps = feature_model(model, ["P3", "P5"])(x)
    assert list(maps) == ["P3", "P5"]
    for level, layer in (("P3", "stage1_block0"), ("P5", "stage3_block0")):
        block = keras.Model(model.input, model.get_layer(layer).output)
        np.testing.assert_array_equal(numpy(maps[level]), numpy(block(x)))


def test_what_is_not_wanted_is_left_out():
    names = [layer.name for layer in feature_model(encoder(), ["P3"]).layers]
    assert names[-1] == "stage1_block0" and "downsample2" not in names


def test_norms_do_not_feed_the_next_stage(tmp_path):
    model = randomise(encoder())
    normalised = feature_model(model, norms=True)
    plain, maps = feature_model(model)(images()), normalised(images())
    for stage, level in enumerate(maps):
        layer = normalised.get_layer(f"norm{stage}")
        assert layer.epsilon == TINY.epsilon
        expected = ops.convert_to_tensor(plain[level])
        np.testing.assert_allclose(numpy(maps[level]), numpy(layer(expected)), atol=1e-6)
    normalised.save(tmp_path / "n.keras")
    again = keras.saving.load_model(tmp_path / "n.keras")
    assert shapes(again) == shapes(normalised) == shapes(model)
    assert again.get_layer("norm3").output is again.pyramid_outputs["P5"]
    assert list(feature_model(normalised, ["P2", "P4"]).pyramid_outputs) == ["P2", "P4"]


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((["P6"],), r"must be some of \['P2', 'P3', 'P4', 'P5'\], received \['P6'\]"),
        (([],), "must be some of"),
    ],
)
def test_wrong_levels_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        feature_model(encoder(), *arguments)


def test_wrong_models_are_refused():
    other = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    with pytest.raises(ValueError, match="no layers named 'stage0_block0'"):
        feature_model(other)
    with pytest.raises(ValueError, match="omit `norms`"):
        feature_model(feature_model(encoder(), norms=True), norms=True)


@pytest.fixture
def keras_hub():
    import keras_hub

    return keras_hub


# what Keras and KerasHub say about their own models
@proven_on_one
@pytest.mark.filterwarnings("ignore::UserWarning:keras", "ignore:__array__:DeprecationWarning")
def test_retinanet_of_keras_hub_trains_on_it(keras_hub, tmp_path):
    side = 64
    pyramid = keras_hub.models.RetinaNetBackbone(
        encoder(), min_level=3, max_level=5, use_p5=False, image_shape=(side, side, 3)
    )
    detector = keras_hub.models.RetinaNetObjectDetector(
        pyramid, num_classes=2, bounding_box_format="xyxy", pre_logits_num_conv_layers=1
    )
    detector.compile("adam")
    x = np.concatenate([images(side, side), images(side, side)[:, ::-1]])
    boxes = np.array([[[4, 4, 40, 40]], [[20, 20, 60, 50]]], "float32")
    y = {"boxes": boxes, "labels": np.array([[0], [1]])}
    losses = detector.fit(x, y, batch_size=2, epochs=3, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    assert detector.predict(x, batch_size=2, verbose=0)["boxes"].shape == (2, 100, 4)
    detector.save(tmp_path / "d.keras")
    again = keras.saving.load_model(tmp_path / "d.keras")
    for key, values in detector(x).items():
        np.testing.assert_array_equal(numpy(values), numpy(again(x)[key]))
    assert list(again.backbone.image_encoder.pyramid_outputs) == ["P2", "P3", "P4", "P5"]


@proven_on_one
@pytest.mark.filterwarnings("ignore::UserWarning:keras", "ignore:__array__:DeprecationWarning")
def test_deeplab_of_keras_hub_trains_on_it(keras_hub, tmp_path):
    side = 64
    backbone = keras_hub.models.DeepLabV3Backbone(
        encoder(output_stride=16),
        spatial_pyramid_pooling_key="P4",
        low_level_feature_key="P2",
        upsampling_size=4,
        dilation_rates=[2, 4],
        projection_filters=8,
        image_shape=(side, side, 3),
    )
    segmenter = keras_hub.models.DeepLabV3ImageSegmenter(backbone, num_classes=3)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    segmenter.compile(keras.optimizers.Adam(0.01), loss, metrics=["accuracy"])
    masks = np.broadcast_to(np.arange(side) * 3 // side, (1, side, side))  # three stripes
    x = images(side, side)
    losses = segmenter.fit(x, masks, epochs=8, verbose=0).history["loss"]
    assert min(losses) < 0.8 * losses[0]
    assert segmenter.predict(x, verbose=0).shape == (1, side, side, 3)
    segmenter.save(tmp_path / "s.keras")
    again = keras.saving.load_model(tmp_path / "s.keras")
    np.testing.assert_array_equal(numpy(segmenter(x)), numpy(again(x)))
