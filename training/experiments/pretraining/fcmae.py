"""Your own photos without labels: a masked autoencoder, as in arXiv 2301.00808, section A.1.

Commands:
    python -m training.pretrain --config fcmae --data_dir PHOTOS
    python -m training.pretrain --config fcmae --data_dir PHOTOS --variant convnextv2_nano \\
        --epochs 800 --batch_size 1024 --gradient_accumulation 8
    python -m training.pretrain --config fcmae --dataset imagenet2012 --data_dir DIR --epochs 1600
PHOTOS is any directory with images in it; folders of classes count for nothing. Its train/ and val/
are used where there are such folders, else a twentieth of the images is kept to measure the loss
on. The last command is the paper's, for a batch of 4096 images on many devices.

The run leaves `encoder.weights.h5`, which is fine-tuned by
    python -m training.train --config finetune --variant VARIANT --weights RUN/encoder.weights.h5 \\
        --dataset folder --data_dir PHOTOS_WITH_CLASSES
and a sheet of reconstructions per `--pictures_every` epochs, in reconstructions/.
Score and time: not yet measured.

A mask has few patches at small sizes, 16 of 32 x 32 pixels at 128; for images of 32 to 64 pixels
`--stem_stride=1` makes patches of 8 x 8. GRN's norm is over each image: `--grn_over=batch` is the
authors' code.
"""

from keras_convnext import VARIANTS

from ...tasks.pretraining.config import PretrainConfig

SMOKE = {
    "variant": VARIANTS["test_convnext2"],
    "image_size": 64,
    "batch_size": 2,
    "decoder_width": 16,
    "epochs": 1,
    "warmup_epochs": 0.0,
}


def config(dataset="folder"):
    is_imagenet = dataset == "imagenet2012"
    return PretrainConfig(
        name="fcmae",
        dataset=dataset,
        published_images=1_281_167 if is_imagenet else None,
        variant=VARIANTS["convnextv2_atto"],
        epochs=800,
        batch_size=4096 if is_imagenet else 256,
        weight_decay=0.05,
    )
