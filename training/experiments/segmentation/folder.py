"""Your own images and masks: `images/` and `masks/`, files with equal names but for the suffix.

Commands:
    python -m training.segment --config folder --data_dir DIR --class_names road,house,tree
    python -m training.segment --config folder --data_dir DIR --class_names names.txt \\
        --validation_images val_images --validation_masks val_masks
    python -m training.segment --config folder --data_dir DIR --class_names background,lesion \\
        --label_values=0,255
A mask has the number of a class in each pixel, from 0 in the order of the names, and 255 where it
does not count; `--first_label=1` where 0 does not count either. `--label_values` gives the value of
each class, as for black and white masks, and `--label_colours` a file with a line such as
`128 64 128 road` for each colour of coloured masks; other colours in it do not count. Some masks
are read first: what they hold is said, and what contradicts these flags is refused. Every tenth
pair is kept for validation unless there are folders for it. It begins with pretrained weights
(downloaded once).
Score and time: not yet measured.
"""

from keras_convnext import VARIANTS

from ...tasks.segmentation.config import SegmentConfig
from . import ade20k

SMOKE = ade20k.SMOKE


def config(class_names="background,object", variant=VARIANTS["convnext_tiny"], weights="imagenet"):
    return SegmentConfig(
        name="folder",
        dataset="folder",
        train_images="images",
        train_masks="masks",
        class_names=class_names,
        variant=variant,
        weights=weights,
        drop_path_rate=0.2,
        epochs=40,
        batch_size=8,
        warmup_updates=100,
        loss_average="valid",
        size=None,
    )
