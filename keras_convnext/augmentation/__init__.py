"""The augmentations of the training recipe, for any script that feeds `fit()` from tf.data.

`Exact` does what the paper's authors did, `KerasCV` something similar with KerasCV's layers,
`Plain` nothing. All have `image(image, key)` and `batch(images, labels, weights, key)`.
`augmented(model)` is the model that trains on the batches of `Exact`.
"""

from keras_convnext.augmentation.exact import Exact
from keras_convnext.augmentation.keras_cv import KerasCV
from keras_convnext.augmentation.plain import Plain
from keras_convnext.augmentation.train_step import augmented, mix_and_erase

__all__ = ["Exact", "KerasCV", "Plain", "augmented", "mix_and_erase"]
