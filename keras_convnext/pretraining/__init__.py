"""Pre-training without labels: ConvNeXt V2's fully convolutional masked autoencoder, `FCMAE`."""

from keras_convnext.pretraining.models import FCMAE
from keras_convnext.pretraining.patches import VisiblePatches, visible_patches

__all__ = ["FCMAE", "VisiblePatches", "visible_patches"]
