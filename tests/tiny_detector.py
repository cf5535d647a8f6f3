"""A detector small enough for tests, and photos with coloured rectangles for it."""

import numpy as np

from keras_convnext import Variant
from keras_convnext.detection import MaskRCNN, Settings, Stage
from tests.backends import randomise

VARIANT = Variant("tiny", (1, 1, 1, 1), (8, 8, 8, 8))
SETTINGS = Settings(
    name="mask_rcnn",
    stages=(Stage(),),
    channels=8,
    box_units=16,
    mask_convolutions=1,
    test_candidates=30,
    test_proposals=20,
    score_threshold=0.0,
    detections=6,
)


def build(classes=3, **arguments):
    """Returns a Mask R-CNN with random weights, which finds something in any image."""
    model = MaskRCNN(VARIANT, classes=classes, settings=SETTINGS, **arguments)
    return randomise(model, scale=0.3)


def photo(seed, height=48, width=64):
    """Returns a uint8 image (height, width, 3) of rectangles on noise."""
    random = np.random.default_rng(seed)
    pixels = random.integers(90, 130, (height, width, 3), "uint8")
    for _ in range(2):
        top, left = random.integers(0, height // 2), random.integers(0, width // 2)
        pixels[top : top + height // 3, left : left + width // 3] = random.integers(0, 256, 3)
    return pixels
