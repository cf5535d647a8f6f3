"""The augmentations of the training recipe, for any script that feeds `fit()` from tf.data.

`PaperAugmentation` does what the paper's authors did, `KerasCV` something similar with KerasCV's
layers, `NoAugmentation` nothing. All have `image(image, key)` and
`batch(images, labels, weights, key)`. `augmented(model)` is the model that trains on the batches of
`PaperAugmentation`.
"""

from keras_convnext import deprecation
from keras_convnext.augmentation.keras_cv import KerasCV
from keras_convnext.augmentation.none import NoAugmentation
from keras_convnext.augmentation.paper import PaperAugmentation
from keras_convnext.augmentation.train_step import augmented, mix_and_erase

__all__ = ["KerasCV", "NoAugmentation", "PaperAugmentation", "augmented", "mix_and_erase"]

__getattr__ = deprecation.renamed(
    __name__, {"Exact": "PaperAugmentation", "Plain": "NoAugmentation"}
)
