"""Fine-tuning: Table 6 of arXiv 2201.03545, from ImageNet-22K to 1K, or any weights to any data.

Commands:
    python -m training.train --config finetune --variant convnext_base --image_size 384
    python -m training.train --config finetune --variant convnext_base --weights fb_in1k \\
        --image_size 384
    python -m training.train --config finetune --variant convnextv2_nano --dataset oxford_flowers102
The first is Table 6's right column (also at 224), the second its left one. The third begins with
that variant's ImageNet weights; the classifier is new for every other number of classes.
Score and time: not yet measured. The paper reaches 85.8 % (224) and 86.8 % (384) with Base.

Augmentation is "exact", for exact resume (see `imagenet1k`); no mixup and no cutmix.
"""

from keras_convnext import VARIANTS
from training.experiments.classification import imagenet1k
from training.tasks.classification.config import Config

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


def config(variant=VARIANTS["convnext_tiny"], weights=None, dataset="imagenet2012"):
    """`weights=None` stands for what the paper begins with: ImageNet-22K, where there are any."""
    weights = weights or ("fb_in22k" if variant.name in DROP_PATH else "imagenet")
    from_1k = weights == "fb_in1k"
    rates = DROP_PATH_FROM_1K if from_1k else DROP_PATH
    is_imagenet = dataset == "imagenet2012"
    return Config(
        name="finetune",
        dataset=dataset,
        published_images=1_281_167 if is_imagenet else None,
        published_classes=1000 if is_imagenet else None,
        variant=variant,
        weights=weights,
        drop_path_rate=rates.get(variant.name, 0.1),
        head_init_scale=0.001,
        epochs=30,
        batch_size=512,
        learning_rate=5e-5,
        learning_rate_batch=512,
        minimum_learning_rate=1e-6,
        warmup_epochs=0,
        weight_decay=1e-8,
        layer_decay=0.7 if from_1k else 0.8,
        ema_momentum=0.9999 if variant.name == "convnext_xlarge" else None,
        augmentation="exact",
        rand_augment="rand-m9-mstd0.5-inc1",
        flip=0.5,
        erase=0.25,
        label_smoothing=0.1,
    )
