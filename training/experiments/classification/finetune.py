"""Fine-tuning: from ImageNet-22K to 1K (arXiv 2201.03545, Table 6), or any weights to any data.

Commands:
    python -m training.train --config finetune --variant convnext_base --image_size 384
    python -m training.train --config finetune --variant convnext_base --weights fb_in1k \\
        --image_size 384
    python -m training.train --config finetune --variant convnextv2_nano --dataset oxford_flowers102
    python -m training.train --config finetune --variant convnextv2_atto --weights fcmae
    python -m training.train --config finetune --variant convnextv2_atto --dataset folder \\
        --weights RUN/encoder.weights.h5 --data_dir PHOTOS --epochs 100
The first is Table 6's right column (also at 224), the second its left one. The third begins with
that variant's ImageNet weights; the classifier is new for every other number of classes. The last
two begin with masked pre-training, published or your own (`training.pretrain`): V2 variants have
the recipe then that the authors published for Atto, Tiny and Base, the others that of the nearest.
Whether weights are of masked pre-training, their name says, or their file, which has no classifier
then; for that a file of an `hf://` address is fetched.
Score and time: not yet measured. The papers reach 85.8 % (224) and 86.8 % (384) with Base, from
ImageNet-22K, and 76.7 % with V2 Atto.

Augmentation is "exact", for exact resume (see `imagenet1k`); no mixup and no cutmix.
"""

import dataclasses

from keras_convnext import VARIANTS, named_weights
from keras_convnext.pretrained import checkpoint, resolve
from keras_convnext.pretrained.download import DownloadError

from ...tasks.classification.config import Config
from . import imagenet1k

# From ImageNet-22K (Table 6, right); from 1K at 384 pixels Base has 0.8 and Large 0.95.
DROP_PATH = {
    "convnext_tiny": 0.0,
    "convnext_small": 0.1,
    "convnext_base": 0.2,
    "convnext_large": 0.3,
    "convnext_xlarge": 0.4,
}
DROP_PATH_FROM_1K = {"convnext_base": 0.8, "convnext_large": 0.95}
SMOKE = {**imagenet1k.SMOKE, "weights": None}
# From masked pre-training: arXiv 2301.00808, section A.1, and the commands published with it.
ATTO = {
    "learning_rate": 2e-4,
    "epochs": 600,
    "warmup_epochs": 0,
    "layer_decay": 0.9,
    "decay_each_block": True,
    "weight_decay": 0.3,
    "drop_path_rate": 0.1,
    "label_smoothing": 0.2,
}
TINY = {
    "learning_rate": 8e-4,
    "epochs": 300,
    "warmup_epochs": 40,
    "layer_decay": 0.9,
    "decay_each_block": True,
    "weight_decay": 0.05,
    "drop_path_rate": 0.2,
    "label_smoothing": 0.1,
    "mixup": 0.8,
    "cutmix": 1.0,
}
BASE = {
    **TINY,
    "learning_rate": 6.25e-4,
    "epochs": 100,
    "warmup_epochs": 20,
    "layer_decay": 0.6,
    "decay_each_block": False,
    "drop_path_rate": 0.1,
}
FROM_MASKED = dict.fromkeys((f"convnextv2_{size}" for size in ("tiny", "small")), TINY)
FROM_MASKED |= dict.fromkeys((f"convnextv2_{size}" for size in ("base", "large", "huge")), BASE)


def config(variant=VARIANTS["convnext_tiny"], weights=None, dataset="imagenet2012"):
    """`weights=None` stands for what the paper begins with: ImageNet-22K, where there are any.

    Raises:
        DownloadError: (an OSError) if the recipe of a V2 variant depends on a file of an `hf://`
            address, and it could not be fetched.
    """
    weights = weights or ("fb_in22k" if variant.name in DROP_PATH else "imagenet")
    is_imagenet = dataset == "imagenet2012"
    begin = Config(
        name="finetune",
        dataset=dataset,
        published_images=1_281_167 if is_imagenet else None,
        published_classes=1000 if is_imagenet else None,
        variant=variant,
        weights=weights,
        head_init_scale=0.001,
        minimum_learning_rate=1e-6,
        augmentation="exact",
        rand_augment="rand-m9-mstd0.5-inc1",
        flip=0.5,
        erase=0.25,
    )
    if variant.grn and _is_masked(weights, variant):
        recipe = FROM_MASKED.get(variant.name, ATTO)
        shared = {"batch_size": 1024, "learning_rate_batch": 256, "ema_momentum": 0.9999}
        return dataclasses.replace(begin, **shared, **recipe)
    return dataclasses.replace(begin, **_table_6(variant, weights))


def _is_masked(weights, variant):
    """Returns whether weights are of masked pre-training: they have no classifier."""
    try:
        row = named_weights.row_of(weights, variant.name)
        if row is not None:
            return not row.classes
        return checkpoint.open(resolve.resolve(weights).path).read_as(variant).classes is None
    except DownloadError:
        raise
    except (OSError, ValueError):  # said where the weights are opened
        return False


def _table_6(variant, weights):
    from_1k = weights == "fb_in1k"
    rates = DROP_PATH_FROM_1K if from_1k else DROP_PATH
    return {
        "drop_path_rate": rates.get(variant.name, 0.1),
        "epochs": 30,
        "batch_size": 512,
        "learning_rate": 5e-5,
        "learning_rate_batch": 512,
        "warmup_epochs": 0,
        "weight_decay": 1e-8,
        "layer_decay": 0.7 if from_1k else 0.8,
        "ema_momentum": 0.9999 if variant.name == "convnext_xlarge" else None,
        "label_smoothing": 0.1,
    }
