"""CIFAR-10 from scratch: 32 x 32 pixels, 10 classes, 50,000 training images.

Command: `python -m training.train --config cifar10 --data_dir DIR`, where DIR is prepared once by
`tfds build cifar10 --data_dir DIR`, which downloads the images.
Score and time: not yet measured; a score is the last epoch's, the best one would be chosen on
the test images.

The stem has a stride of 2 in place of 4, so that the last stage still sees 2 x 2 pixels, with any
`--variant`, and images are padded and cropped in place of the random resized crop.
Augmentation is "exact", for exact resume (see `imagenet1k`).
"""

import dataclasses

from keras_convnext import Variant

from ...tasks.classification.config import Config

CIFAR = Variant(
    "convnext_cifar",
    depths=(2, 2, 6, 2),
    dims=(64, 128, 256, 512),
    layer_scale=None,
    mean=(0.4914, 0.4822, 0.4465),  # of the training set
    std=(0.2470, 0.2435, 0.2616),
)
FEW_STEPS = {"batch_size": 4, "epochs": 1, "warmup_epochs": 0.0}
SMOKE = {
    **FEW_STEPS,
    "variant": dataclasses.replace(CIFAR, depths=(1, 1, 1, 1), dims=(16, 32, 64, 128)),
}
# What every training on these images has, however long.
SHARED = {
    "dataset": "cifar10",
    "validation_split": "test",
    "published_images": 50_000,
    "published_classes": 10,
    "image_size": 32,
    "stem_stride": 2,
    "augmentation": "exact",
    "padding": 4,
    "flip": 0.5,
}


def config(variant=CIFAR):
    return Config(
        **SHARED,
        name="cifar10",
        variant=variant,
        drop_path_rate=0.1,
        epochs=200,
        batch_size=512,
        learning_rate=2e-3,
        warmup_epochs=10,
        ema_momentum=0.999,
        rand_augment="rand-m9-mstd0.5-inc1",
        erase=0.25,
        mixup=0.8,
        cutmix=1.0,
    )
