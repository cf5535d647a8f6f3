"""CIFAR-10 on a laptop: a small ConvNeXt, 20 epochs, padded crops and flips alone.

Command: `KERAS_BACKEND=torch python -m training.train --config cifar10_quick --data_dir DIR`, with
DIR as for `cifar10`.
Score and time: not yet measured.

Three stages of 16, 8 and 4 pixels with smaller kernels than the paper's: 7 x 7 sees little more
than zeros there. So few epochs ask for a high rate and for no more augmentation than this.
"""

import dataclasses

from training.config import Config
from training.configs.cifar10 import CIFAR

QUICK = dataclasses.replace(
    CIFAR,
    name="convnext_cifar_quick",
    depths=(1, 3, 2),
    dims=(48, 96, 192),
    kernel_sizes=(5, 5, 3),
)
SMOKE = {
    "variant": dataclasses.replace(QUICK, depths=(1, 1, 1), dims=(16, 32, 64)),
    "batch_size": 4,
    "epochs": 1,
    "warmup_epochs": 0.0,
}


def config(variant=QUICK):
    return Config(
        name="cifar10_quick",
        dataset="cifar10",
        validation_split="test",
        published_images=50_000,
        published_classes=10,
        image_size=32,
        variant=variant,
        stem_stride=2,
        epochs=20,
        batch_size=128,
        learning_rate=3e-3,
        minimum_learning_rate=0.0,
        warmup_epochs=1.0,
        augmentation="exact",
        padding=4,
        flip=0.5,
    )
