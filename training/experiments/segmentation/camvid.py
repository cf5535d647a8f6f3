"""CamVid from scratch: streets from a car, 11 classes, 367 frames of 480 x 360 for training.

Command: `KERAS_BACKEND=torch python -m training.segment --config camvid --data_dir CAMVID`, where
CAMVID has the folders `train`, `trainannot`, `val`, `valannot`, `test` and `testannot` of the
SegNet tutorial.
Score and time: mean IoU 45.7 % on the 233 test frames (84.4 % of the pixels right), 58.3 % on the
101 validation frames, one seed, 59 minutes on one thread (`training/records/2026-11-22_camvid`).

A small ConvNeXt without layer scale, which has no time to grow from 1e-6, and narrow heads. An hour
has few steps, so each is to show much: frames of 288 x 216, of which a crop has a quarter to three
quarters, batches of four, crops and flips alone. The loss is averaged over the pixels that count.
Poles and signs are lost at that size (test IoU 7 % and 11 %).

Tried on 2026-11-22: `--size=480,360 --validation_size=360,480 --crop=192 --scale=0.6,1.6
--learning_rate=2e-3 --epochs=55` was at 20 % quick validation mean IoU after 9 epochs (stopped),
this at 30 % after 8.
"""

import dataclasses

from keras_convnext import Variant

from ...tasks.segmentation.config import SegmentConfig
from . import ade20k

CAMVID = Variant("convnext_camvid", depths=(2, 2, 4, 2), dims=(32, 64, 128, 192), layer_scale=None)
NAMES = "sky,building,pole,road,pavement,tree,sign,fence,car,pedestrian,bicyclist"
SMOKE = {
    **ade20k.SMOKE,
    "variant": dataclasses.replace(CAMVID, depths=(1, 1, 1, 1), dims=(8, 8, 8, 8)),
}


def config(variant=CAMVID):
    return SegmentConfig(
        name="camvid",
        dataset="folder",
        train_images="train",
        train_masks="trainannot",
        validation_images="val",
        validation_masks="valannot",
        test_images="test",
        test_masks="testannot",
        published_images=367,
        class_names=NAMES,
        ignored_label=11,
        variant=variant,
        kernel_gain=0.7,
        channels=32,
        auxiliary_channels=32,
        dropout=0.0,
        epochs=65,
        batch_size=4,
        learning_rate=3e-3,
        warmup_updates=100,
        stage_decay=1.0,
        loss_average="valid",
        ema_momentum=0.99,
        crop=160,
        size=(288, 216),
        scale=(0.75, 1.25),
        distort=False,
        validation_size=(216, 288),
    )
