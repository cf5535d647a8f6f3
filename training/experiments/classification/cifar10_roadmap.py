"""The steps from ResNet to ConvNeXt on CIFAR-10, each with one equal short budget.

Command: `KERAS_BACKEND=torch python -m training.ablation --data_dir DIR` for those of Figure 2, or
`python -m training.train --config cifar10_roadmap --step depthwise --data_dir DIR` for one, with
DIR as for `cifar10`.
Score and time: 44 to 51 % of the test images, two seeds, one to five minutes per run on one thread
(`training/records/2026-11-22_cifar10_roadmap`).

A small road of the paper's shape: a ResNet of bottleneck blocks whose widths begin at two thirds of
the ConvNeXt's, as 64 stands to 96. Two fifths of the training images, once: what it shows is how
soon a network learns, not how far it gets.
"""

import dataclasses

from keras_convnext.roadmap import Regime

from ...tasks.classification.config import Config
from . import cifar10

END = dataclasses.replace(
    cifar10.CIFAR, name="convnext_cifar_road", depths=(1, 1, 3, 1), dims=(24, 48, 96, 192)
)
ROAD = Regime("cifar", depths=(1, 2, 2, 1), width=16, end=END)
SMOKE = {
    **cifar10.FEW_STEPS,
    "train_split": "train",
    "road": dataclasses.replace(ROAD, depths=(1, 1, 1, 1), width=4),
}


def config(step="separate_downsampling"):
    shared = cifar10.SHARED | {"published_images": 20_000}
    return Config(
        **shared,
        name="cifar10_roadmap",
        train_split="train[:20000]",
        variant=END,
        road=ROAD,
        step=step,
        epochs=1,
        batch_size=64,
        kernel_gain=0.7,
        learning_rate=4e-3,
        minimum_learning_rate=0.0,
        warmup_epochs=0.25,
    )
