"""KerasHub's own harness for backbones, tasks and preprocessors, on ours."""

import keras
import numpy as np
import pytest

from keras_convnext import Variant
from tests.backends import proven_on_one

pytest.importorskip("keras_hub", reason="installed apart, see the Makefile")
pytest.importorskip("grain", reason="KerasHub's harness imports it; see the Makefile")

from keras_hub.src.tests import test_case  # noqa: E402

from keras_convnext.keras_hub import (  # noqa: E402
    ConvNeXtBackbone,
    ConvNeXtImageClassifier,
    ConvNeXtImageClassifierPreprocessor,
    ConvNeXtImageConverter,
    UperNetImageSegmenter,
    UperNetImageSegmenterPreprocessor,
)

TINY = Variant("tiny", (1, 1, 1, 1), (4, 4, 8, 8))
PIXELS = np.random.default_rng(0).integers(0, 256, (2, 40, 40, 3), "uint8")
LABELS = np.array([0, 2])


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
class TestOurs(test_case.TestCase):
    def tearDown(self):
        keras.config.set_image_data_format("channels_last")  # a check that fails leaves the other
        super().tearDown()

    def check_backbone(self, **checks):
        self.run_vision_backbone_test(
            ConvNeXtBackbone,
            init_kwargs={"variant": TINY, "image_shape": (64, 64, 3), "drop_path_rate": 0.1},
            input_data=keras.ops.ones((2, 64, 64, 3)),
            expected_output_shape=(2, 2, 2, 8),
            expected_pyramid_output_keys=["P2", "P3", "P4", "P5"],
            expected_pyramid_image_sizes=[(16, 16), (8, 8), (4, 4), (2, 2)],
            run_quantization_check=False,  # the backbone refuses such policies
            **checks,
        )

    @pytest.mark.slow
    def test_backbone_in_every_policy(self):
        self.check_backbone(run_data_format_check=False)

    @proven_on_one
    def test_backbone_in_both_orders_of_axes(self):
        # the harness has Keras' Permute compute a shape from an array, which it cannot on JAX
        self.check_backbone(run_mixed_precision_check=False)

    @proven_on_one
    def test_classifier(self):
        converter = ConvNeXtImageConverter((32, 32), crop_pct=0.875)
        preprocessor = ConvNeXtImageClassifierPreprocessor(converter)
        arguments = {"backbone": ConvNeXtBackbone(TINY), "num_classes": 3}
        self.run_task_test(
            ConvNeXtImageClassifier,
            init_kwargs={**arguments, "preprocessor": preprocessor},
            train_data=(PIXELS, LABELS),
            expected_output_shape=(2, 3),
        )
        pixels = keras.ops.ones((2, 32, 32, 3))
        self.run_model_saving_test(ConvNeXtImageClassifier, arguments, pixels)

    @proven_on_one
    def test_segmenter(self):
        preprocessor = UperNetImageSegmenterPreprocessor(ConvNeXtImageConverter())
        sizes = {"num_classes": 3, "channels": 4, "auxiliary_channels": 4}
        self.run_task_test(
            UperNetImageSegmenter,
            init_kwargs={
                "backbone": ConvNeXtBackbone(TINY),
                "preprocessor": preprocessor,
                **sizes,
            },
            train_data=(PIXELS, np.eye(3)[np.ones((2, 40, 40), int)]),
            expected_output_shape=(2, 40, 40, 3),
        )

    def test_converter_and_preprocessor(self):
        converter = {"image_size": (24, 24), "crop_pct": 0.75}
        self.run_preprocessing_layer_test(ConvNeXtImageConverter, converter, PIXELS)
        self.run_preprocessing_layer_test(
            ConvNeXtImageClassifierPreprocessor,
            {"image_converter": ConvNeXtImageConverter(**converter)},
            (PIXELS, LABELS),
        )
