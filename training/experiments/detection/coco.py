"""COCO: 80 classes, 118,287 images for training; section 4 and Appendix A.3 of arXiv 2201.03545.

Commands:
    python -m training.detect --config coco --data_dir COCO
    python -m training.detect --config coco --data_dir COCO --detector=cascade_mask_rcnn \\
        --variant=convnext_base --weights=fb_in22k
    python -m training.detect --config coco --data_dir COCO --augmentation=jitter \\
        --canvas=1024,1024 --size=1024,1024
COCO has the folders `annotations`, `train2017` and `val2017` of the archives, unpacked. The first
is the paper's Mask R-CNN, the second a Cascade Mask R-CNN of its Table 3; the third trains on one
square canvas, which compiles once, and with another augmentation than the paper's.
Score and time: not yet measured. The paper reaches 46.2 / 41.7 AP of boxes / masks with Mask R-CNN
and T, with the cascade 50.4 / 43.7, 51.9 / 45.0 and 52.7 / 45.6 with T, S and B, and 54.0 / 46.9,
54.8 / 47.6 and 55.2 / 47.7 with B, L and XL from ImageNet-22K.
"""

import dataclasses

from keras_convnext import VARIANTS

from ...tasks.detection.config import DetectConfig

# Stochastic depth and layer-wise decay of the published configurations, of the cascade and with
# weights of ImageNet-1K; with those of ImageNet-22K other rates begin a run, and depth drops less.
DROP_PATH = {
    "convnext_small": 0.6,
    "convnext_base": 0.7,
    "convnext_large": 0.7,
    "convnext_xlarge": 0.8,
}
DECAY = {"convnext_base": 0.8}
# The paper begins with weights that are no moving averages.
START = {"convnext_large": "fb_in22k", "convnext_xlarge": "fb_in22k"}
SMOKE = {
    "variant": dataclasses.replace(VARIANTS["test_convnext2"], layer_scale=None),
    "weights": None,
    "channels": 8,
    "box_units": 16,
    "mask_convolutions": 1,
    "box_samples": 16,
    "candidates": 32,
    "proposals": 16,
    "canvas": (64, 96),
    "short_side": (48, 64),
    "short_side_step": 16,
    "long_side": 96,
    "crop_short_side": (48, 64),
    "crop_sides": (40, 60),
    "objects": 8,
    "size": (96, 64),
    "batch_size": 2,
    "epochs": 1,
    "warmup_updates": 0,
}


def config(variant=VARIANTS["convnext_tiny"], weights=None, detector="mask_rcnn"):
    """`weights=None` is what the paper begins with."""
    weights = weights or START.get(variant.name, "fb_in1k_nonema")
    is_cascade, is_22k = detector == "cascade_mask_rcnn", "22k" in weights
    drop_path = DROP_PATH.get(variant.name, 0.4)
    if variant.name == "convnext_base" and is_22k:
        drop_path = 0.6
    return DetectConfig(
        name="coco",
        dataset="coco",
        train_annotations="annotations/instances_train2017.json",
        train_images="train2017",
        validation_annotations="annotations/instances_val2017.json",
        validation_images="val2017",
        published_images=117_266,
        published_classes=80,
        variant=variant,
        weights=weights,
        detector=detector,
        drop_path_rate=drop_path,
        epochs=36,
        batch_size=16,
        learning_rate=2e-4 if is_cascade and not is_22k else 1e-4,
        warmup_updates=500,
        layer_decay=DECAY.get(variant.name, 0.7) if is_cascade else 0.95,
    )
