"""Penn-Fudan from scratch: people on pavements, boxes and masks, 128 images for training.

Command: `KERAS_BACKEND=torch python -m training.detect --config pennfudan --data_dir PENNFUDAN`,
where PENNFUDAN has `instances_train.json`, `instances_val.json` and the folder `images`.
Score and time: AP50 of boxes 87.7 % and of masks 71.8 % on the 42 images for validation after
the last epoch, AP 46.5 and 35.0 %; 73 minutes (torch, one thread of a core of AMD EPYC, one seed):
`training/records/2026-11-29_pennfudan`.

A small ConvNeXt without layer scale, which has no time to grow from 1e-6, narrow heads, and few
proposals: there are one to eight people in an image. Images within 384 x 256 pixels.
"""

import dataclasses

from keras_convnext import Variant

from ...tasks.detection.config import DetectConfig
from . import coco

PEOPLE = Variant("convnext_people", depths=(2, 2, 4, 2), dims=(24, 48, 96, 160), layer_scale=None)
SMOKE = {
    **coco.SMOKE,
    "variant": dataclasses.replace(PEOPLE, depths=(1, 1, 1, 1), dims=(8, 8, 8, 8)),
}


def config(variant=PEOPLE):
    return DetectConfig(
        name="pennfudan",
        dataset="coco",
        published_images=128,
        published_classes=1,
        variant=variant,
        kernel_gain=0.7,
        channels=64,
        box_units=128,
        mask_convolutions=2,
        box_samples=64,
        candidates=300,
        proposals=100,
        epochs=90,
        batch_size=4,
        learning_rate=1e-3,
        warmup_updates=100,
        layer_decay=1.0,
        ema_momentum=0.99,
        canvas=(256, 384),
        short_side=(192, 256),
        short_side_step=16,
        long_side=384,
        crop_probability=0.3,
        crop_short_side=(256, 320),
        crop_sides=(192, 288),
        objects=16,
        size=(384, 256),
        score_epochs=5,
    )
