"""CIFAR-10 with 500 labels: a small ConvNeXt V2, from scratch or from masked pre-training.

Commands:
    python -m training.train --config cifar10_few_labels --data_dir DIR --seed 1
    python -m training.train --config cifar10_few_labels --data_dir DIR --seed 1 \\
        --weights RUN/encoder.weights.h5
with DIR as for `cifar10`, and RUN of `python -m training.pretrain --config fcmae_cifar10`. The seed
chooses the labels too: 0 has the first 500 images of the training set, 1 the next ones. The last
500 are for validation, so that the test images choose nothing; what is compared is `last.keras`, on
all test images:
    python -m training.evaluate RECORD/last.keras --data cifar10 --data_dir DIR
Score and time: of the test images 34.9 % from scratch (standard deviation 0.4) and 37.6 % (0.2)
after that pre-training of twelve passes, three seeds each, one to two minutes per run on one thread
beside other work (`training/records/2026-11-29_cifar10_few_labels-2`). A pre-training of three
passes had not helped: 33.5 % (1.3).

Both ways have the same recipe but for the initial kernels: new ones begin wider than 0.02, as in
`cifar10_quick`.
"""

import dataclasses

from ...tasks.classification.config import Config
from . import cifar10

SMALL = dataclasses.replace(
    cifar10.CIFAR,
    name="convnextv2_cifar_small",
    depths=(1, 2),
    dims=(24, 64),
    kernel_sizes=(3, 5),
    grn=True,
)
LABELS = 500
SMOKE = {
    **cifar10.FEW_STEPS,
    "variant": dataclasses.replace(SMALL, depths=(1, 1), dims=(8, 16)),
    "train_split": "train",
    "validation_split": "test",
}


def config(variant=SMALL, weights=None, seed=0):
    shared = {"published_images": LABELS, "validation_split": f"train[{50_000 - LABELS}:]"}
    return Config(
        **cifar10.SHARED | shared,
        name="cifar10_few_labels",
        train_split=f"train[{LABELS * seed}:{LABELS * (seed + 1)}]",
        variant=variant,
        weights=weights,
        seed=seed,
        kernel_gain=0.7 if weights is None else None,
        epochs=20,
        batch_size=50,
        learning_rate=2e-3,
        minimum_learning_rate=0.0,
        warmup_epochs=2.0,
    )
