"""ADE20K: 150 classes, 20,210 images for training; Appendix A.3 of arXiv 2201.03545.

Commands:
    python -m training.segment --config ade20k --data_dir ADEChallengeData2016
    python -m training.segment --config ade20k --dataset scene_parse150 --data_dir TFDS
    python -m training.segment --config ade20k --variant convnext_base --weights fb_in22k ...
The first reads the archive of the benchmark, unpacked; the second what TensorFlow Datasets has
prepared. The third is the paper's setting for weights of ImageNet-22K: crops of 640 pixels. 127
epochs of 1263 updates are the paper's 160,000 and 401 more.
Score and time: not yet measured. The paper reaches 46.0 / 48.7 / 49.1 % mIoU with T / S / B at one
scale, 52.6 / 53.2 / 53.6 % with B / L / XL from ImageNet-22K.
"""

from keras_convnext import VARIANTS

from ...tasks.segmentation.config import SegmentConfig

DROP_PATH = {"convnext_small": 0.3}
# The paper begins with weights that are no moving averages.
START = {"convnext_large": "fb_in22k", "convnext_xlarge": "fb_in22k"}
SMOKE = {
    "variant": VARIANTS["test_convnext2"],
    "weights": None,
    "channels": 8,
    "auxiliary_channels": 8,
    "crop": 32,
    "size": (64, 32),
    "validation_size": (32, 48),
    "batch_size": 2,
    "epochs": 1,
    "warmup_updates": 0,
}


def config(variant=VARIANTS["convnext_tiny"], weights=None, dataset="folder"):
    """`weights=None` is what the paper begins with."""
    weights = weights or START.get(variant.name, "fb_in1k_nonema")
    side = 640 if "22k" in weights else 512
    is_folder = dataset == "folder"
    return SegmentConfig(
        name="ade20k",
        dataset=dataset,
        train_images="images/training" if is_folder else None,
        train_masks="annotations/training" if is_folder else None,
        validation_images="images/validation" if is_folder else None,
        validation_masks="annotations/validation" if is_folder else None,
        published_images=20_210,
        class_names="ade20k",
        first_label=1,
        variant=variant,
        weights=weights,
        drop_path_rate=DROP_PATH.get(variant.name, 0.4),
        epochs=127,
        batch_size=16,
        learning_rate=8e-5 if variant.name == "convnext_xlarge" else 1e-4,
        warmup_updates=1500,
        stage_decay=0.9,
        decay_depth=6 if variant.name == "convnext_tiny" else 12,
        crop=side,
        size=(4 * side, side),
        validation_size=(side, side * 3 // 2),
    )
