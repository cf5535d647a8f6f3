"""Your own images with boxes, or with masks, in COCO's format, as most tools for annotation write.

Commands:
    python -m training.detect --config folder --data_dir DIR
    python -m training.detect --config folder --data_dir DIR --masks=false
    python -m training.detect --config folder --data_dir DIR --train_annotations=a/train.json \\
        --train_images=photos --validation_annotations=a/val.json --validation_images=photos
DIR is laid out as COCO is (`annotations/instances_train2017.json`, `train2017/`), as Roboflow
exports it (`train/_annotations.coco.json`, `valid/_annotations.coco.json`), or has one
`annotations.json`, of which every tenth image is kept for validation. What is left out is said.
It begins with pretrained weights of ImageNet (downloaded once).
Score and time: not yet measured.
"""

from keras_convnext import VARIANTS

from ...tasks.detection.config import DetectConfig
from . import coco

SMOKE = coco.SMOKE


def config(variant=VARIANTS["convnext_tiny"], weights="fb_in1k_nonema"):
    return DetectConfig(
        name="folder",
        dataset="coco",
        variant=variant,
        weights=weights,
        drop_path_rate=0.2,
        epochs=36,
        batch_size=4,
        learning_rate=5e-5,
        warmup_updates=100,
    )
