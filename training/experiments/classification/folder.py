"""Your own photos: a directory with one folder of images per class.

Commands:
    python -m training.verify_data PHOTOS
    python -m training.train --config folder --data_dir PHOTOS
    python -m training.train --config folder --data_dir PHOTOS --weights none
The classes are the names of the folders, in natural order: 2 before 10. PHOTOS may hold the class
folders, or train/, val/ (also valid, validation, dev) and test/ with class folders, as data sets
are usually published; `--dry-run` says how it is understood. Without a folder for validation a
fifth of each class is kept for it; test images are never used. The first run begins with
pretrained weights (downloaded once), the last one from scratch, with a small model and a longer
schedule.
`--class_weights=true` helps where some classes have far fewer photos than others.
Score and time: the last command, with 600 photographs of five flowers, is right for 69 % of 150
others; a linear classifier of 4 x 4 to 16 x 16 pixels for 48 to 51 % (seed 0, 13 to 25 seconds per
epoch on one thread; `training/records/`). Few photographs want pretrained weights, whose score is
not yet measured.

Augmentation is KerasCV's; `--augmentation=exact` is the paper's, which resumes to the bit.
"""

import dataclasses

from keras_convnext import VARIANTS

from ...tasks.classification.config import Config
from . import imagenet1k

# From scratch on hundreds of photos there is no time for the residual branches to grow from 1e-6.
SMALL = dataclasses.replace(
    VARIANTS["convnext_atto"], name="convnext_photos", depths=(1, 1, 3, 1), layer_scale=None
)
SMOKE = {**imagenet1k.SMOKE, "weights": None}
SHARED = {
    "name": "folder",
    "dataset": "folder",
    "augmentation": "keras_cv",
    "flip": 0.5,
}


def config(weights="imagenet", variant=None):
    """With `weights=None` the recipe is for training from scratch."""
    if weights is None:
        return Config(
            **SHARED,
            variant=variant or SMALL,
            kernel_gain=0.7,
            image_size=64,
            stem_stride=2,
            epochs=120,
            batch_size=16,
            learning_rate=3e-3,
            warmup_epochs=5,
            crop_scale=(0.25, 1.0),
            mixup=0.2,
            cutmix=1.0,
            erase=0.25,
            drop_path_rate=0.05,
            ema_momentum=0.995,
        )
    return Config(
        **SHARED,
        variant=variant or VARIANTS["convnext_tiny"],
        weights=weights,
        ema_momentum=0.99,
        image_size=224,
        epochs=15,
        batch_size=32,
        learning_rate=2e-4,
        warmup_epochs=1,
        layer_decay=0.7,
        weight_decay=1e-4,
        rand_augment="rand-m9-mstd0.5-inc1",
        crop_scale=(0.5, 1.0),
        drop_path_rate=0.1,
        head_init_scale=0.001,
    )
