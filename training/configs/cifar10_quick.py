"""CIFAR-10 on a laptop: a small ConvNeXt, 22 epochs, padded crops and flips alone.

Command: `KERAS_BACKEND=torch python -m training.train --config cifar10_quick --data_dir DIR`, with
DIR as for `cifar10`.
Score and time: not yet measured.

Three stages of 16, 8 and 4 pixels with smaller kernels than the paper's: 7 x 7 sees little more
than zeros there. So few epochs ask for a high rate, for kernels that begin wider than 0.02, and for
no more augmentation than this.

Tried with 300 steps each, on 45,000 of the images, accuracy on the other 5,000 (one seed): rate
2e-3 45.3 %, 6e-3 44.1 %; an overlapping stem at 2e-3 44.4 %; 600 steps of 64 images at 2e-3 46.8 %;
`kernel_gain` 1 at 2e-3 46.1 %, 0.7 at 4e-3 50.1 %, 0.7 at 6e-3 51.9 %, 1 at 1e-2
52.7 %, 0.7 with 600 steps of 64 images at 4e-3 54.0 %.
"""

import dataclasses

from training.config import Config
from training.configs import cifar10

QUICK = dataclasses.replace(
    cifar10.CIFAR,
    name="convnext_cifar_quick",
    depths=(1, 3, 2),
    dims=(48, 96, 192),
    kernel_sizes=(5, 5, 3),
)
SMOKE = {
    **cifar10.FEW_STEPS,
    "variant": dataclasses.replace(QUICK, depths=(1, 1, 1), dims=(16, 32, 64)),
}


def config(variant=QUICK):
    return Config(
        **cifar10.SHARED,
        name="cifar10_quick",
        variant=variant,
        kernel_gain=0.7,
        epochs=22,
        batch_size=128,
        learning_rate=6e-3,
        minimum_learning_rate=0.0,
        warmup_epochs=1.0,
    )
