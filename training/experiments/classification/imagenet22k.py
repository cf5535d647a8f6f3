"""ImageNet-22K from scratch at 224 pixels: Table 5, right column, of arXiv 2201.03545.

Command: `python -m training.train --config imagenet22k --variant convnext_base --data_dir DIR`,
where DIR has one folder of images for each of the 21841 classes. A thousandth is kept aside to
watch; the paper's accuracies come from fine-tuning on ImageNet-1K (`--config finetune`).
Score and time: not yet measured.

Augmentation is "exact" for the reason that `imagenet1k` gives: exact resume.
"""

from keras_convnext import VARIANTS

from ...tasks.classification.config import Config
from . import imagenet1k

# Table 5; the variants the paper does not train get none.
DROP_PATH = {
    "convnext_tiny": 0.0,
    "convnext_small": 0.0,
    "convnext_base": 0.1,
    "convnext_large": 0.1,
    "convnext_xlarge": 0.2,
}
SMOKE = {**imagenet1k.SMOKE, "validation_fraction": None}


def config(variant=VARIANTS["convnext_base"]):
    return Config(
        name="imagenet22k",
        dataset="folder",
        validation_fraction=0.001,
        published_images=14_197_122,
        published_classes=21_841,
        upright=False,
        variant=variant,
        drop_path_rate=DROP_PATH.get(variant.name, 0.0),
        epochs=90,
        batch_size=4096,
        learning_rate=4e-3,
        learning_rate_batch=4096,
        minimum_learning_rate=1e-6,
        warmup_epochs=5,
        weight_decay=0.05,
        **imagenet1k.RECIPE,
    )
