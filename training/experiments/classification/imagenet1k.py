"""ImageNet-1K from scratch at 224 pixels: Table 5, left column, of arXiv 2201.03545.

Command: `python -m training.train --config imagenet1k --variant convnext_tiny --data_dir DIR`,
where DIR has `imagenet2012` as TensorFlow Datasets prepares it. The batch of 4096 is shared by the
devices; `--gradient_accumulation=N` cuts it into N pieces that fit into their memory, and
`--batch_size` scales the learning rate along. `--dry-run` prints the plan.
Score and time: not yet measured. The paper's moving averages reach 82.1 / 83.1 / 83.8 / 84.3 % with
T / S / B / L (Table 1).

Augmentation is "exact", the operations of the paper's own code: they are pure functions of seed,
epoch and image, so that a run resumes to the bit, which KerasCV's layers cannot. And it is faster:
on 2 CPU cores 309 photographs per second against 148, with the mixing left to the device; Pillow in
worker processes, as timm does it, 265 with the mixing and 348 without
(`benchmarks/results/input_pipeline.json`).
"""

from keras_convnext import VARIANTS

from ...tasks.classification.config import Config

# Table 5 and Appendix A; the variants the paper does not train get Tiny's.
DROP_PATH = {
    "convnext_tiny": 0.1,
    "convnext_small": 0.4,
    "convnext_base": 0.5,
    "convnext_large": 0.5,
    "convnext_isotropic_small": 0.1,
    "convnext_isotropic_base": 0.2,
    "convnext_isotropic_large": 0.5,
}
# One update of 4096 images is out of reach of a test: a batch of four and the smallest model.
SMOKE = {
    "variant": VARIANTS["test_convnext2"],
    "image_size": 32,
    "batch_size": 4,
    "learning_rate_batch": None,  # a thousandth of the rate would be below its own minimum
    "epochs": 1,
    "warmup_epochs": 0.0,
}


def config(variant=VARIANTS["convnext_tiny"]):
    return Config(
        name="imagenet1k",
        dataset="imagenet2012",
        published_images=1_281_167,
        published_classes=1000,
        upright=False,
        variant=variant,
        drop_path_rate=DROP_PATH.get(variant.name, 0.1),
        epochs=300,
        batch_size=4096,
        learning_rate=4e-3,
        learning_rate_batch=4096,
        minimum_learning_rate=1e-6,
        warmup_epochs=50 if "isotropic" in variant.name else 20,
        weight_decay=0.05,
        ema_momentum=0.9999,
        **RECIPE,
    )


# The augmentation of both columns of Table 5.
RECIPE = {
    "augmentation": "exact",
    "rand_augment": "rand-m9-mstd0.5-inc1",
    "crop_scale": (0.08, 1.0),
    "flip": 0.5,
    "erase": 0.25,
    "mixup": 0.8,
    "cutmix": 1.0,
    "label_smoothing": 0.1,
}
