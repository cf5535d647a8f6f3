"""`FCMAE`: a ConvNeXt that learns from images without labels, by predicting what is masked."""

import dataclasses
import warnings

import keras
from keras import ops

from keras_convnext import checks
from keras_convnext.layers.remat import KeepsItsCall
from keras_convnext.models import ConvNeXt, preprocessing
from keras_convnext.pretraining.decoder import MaskedDecoder
from keras_convnext.pretraining.encoder import masked_stages
from keras_convnext.pretraining.losses import reconstruction_loss
from keras_convnext.pretraining.patches import RandomMasks, VisiblePatches
from keras_convnext.variants import Variant, variant_of

GRN_OVER = ("image", "batch")


@keras.saving.register_keras_serializable(package="keras_convnext")
class FCMAE(KeepsItsCall, keras.Model):
    """A fully convolutional masked autoencoder: a ConvNeXt that learns without labels.

    A random part of the patches of each image is hidden. The encoder sees the others, and nothing
    of what is hidden; a small decoder predicts the pixels that it did not see. Patches have the
    size of one pixel of the encoder's output, 32 x 32 pixels for variants of stride 32.

    Source: arXiv 2301.00808, section 3. V1 variants, without Global Response Normalization, are the
    paper's ablation. Two things differ from the authors' code: their GRN takes its norm over the
    visible pixels of the whole batch, which `grn_over="batch"` does too; and their initial kernels
    have a standard deviation of 0.88 in place of the paper's 0.02, which is used here.

    Args:
        variant: name of a row of `keras_convnext.VARIANTS`, or a `keras_convnext.Variant`.
        mask_ratio: part of the patches that is hidden, in (0, 1). The number of visible ones is
            rounded down.
        include_preprocessing: whether the encoder normalises images of range [0, 255], as in
            `ConvNeXt`; the pixels that are predicted are the normalised ones.
        weights: to begin with, as `ConvNeXt(weights=...)` takes them: of an encoder without the
            norm before the classifier, such as `"fcmae"` or a file of masked pre-training, with its
            decoder where the file has one; `None`: random.
        channels: of the images.
        stem_stride: as of `ConvNeXt`; a smaller one makes smaller patches, for small images.
        decoder_depth: number of blocks of the decoder.
        decoder_width: number of their channels.
        normalize_targets: whether the target is each patch with its own mean and standard
            deviation removed.
        grn_over: what GRN of the encoder takes its norm over in pre-training: `"image"`, the
            visible pixels of each image, as in all later use; or `"batch"`.
        seed: of the masks: int, or `None` for one drawn when the model is made.

    Attributes:
        encoder: the `ConvNeXt(variant, include_top=False)` that is trained, without the norm before
            the classifier, which pre-training does not have.
        decoder: the `MaskedDecoder`.
        variant: of the encoder, a `Variant`.

    Input: images `(batch, height, width, channels)`, or channels first where
    `keras.config.image_data_format()` says so; height and width are known and are multiples of the
    patch size. `model(images, patches=visible_patches(mask))` hides what you choose.

    Output: a dict with `"prediction"`, float `(batch, rows, columns, pixels of a patch * channels)`
    in the order row, column, channel; and `"mask"`, bool `(batch, rows, columns)`, true where a
    patch was hidden. Outside of training the masks are always the same.

    `fit` and `evaluate` compute the loss themselves: compile with an optimizer alone. It is the
    mean squared error over the hidden pixels. Labels that a dataset has are ignored, with a
    warning.

    Raises:
        ValueError: if an argument has a value that is not allowed, or the images do not fit.
        TypeError: if `variant` is neither a name nor a `Variant`.

    Example:
        import numpy as np
        from keras_convnext import ConvNeXt, Variant
        from keras_convnext.pretraining import FCMAE
        mine = Variant("mine", (1, 1, 1, 1), (8, 8, 8, 16), grn=True, layer_scale=None)
        model = FCMAE(mine, decoder_width=16)
        model.compile("adamw")
        model.fit(np.zeros((4, 64, 64, 3), "uint8"), verbose=0)  # no labels
        model.encoder.save_weights("mine.weights.h5")
        classifier = ConvNeXt(mine, weights="mine.weights.h5", classes=10)
    """

    def __init__(
        self,
        variant,
        mask_ratio=0.6,
        *,
        include_preprocessing=True,
        weights=None,
        channels=3,
        stem_stride=None,
        decoder_depth=1,
        decoder_width=512,
        normalize_targets=True,
        grn_over="image",
        seed=None,
        name=None,
        **kwargs,
    ):
        variant = _bare(variant, stem_stride)
        super().__init__(name=name or f"fcmae_{variant.name}", **kwargs)
        self.variant = variant
        self.channels = checks.integer("channels", channels, 1)
        self.include_preprocessing = include_preprocessing
        self.normalize_targets = normalize_targets
        self.grn_over = checks.one_of("grn_over", grn_over, GRN_OVER)
        self.masks = RandomMasks(mask_ratio, variant.stride, seed, name="masks")
        first = keras.config.image_data_format() == "channels_first"
        self.encoder = ConvNeXt(
            variant,
            include_top=False,
            include_preprocessing=include_preprocessing,
            input_shape=(channels, None, None) if first else (None, None, channels),
        )
        units = variant.stride**2 * channels
        self.decoder = MaskedDecoder(
            units, decoder_width, decoder_depth, variant.grn, name="decoder"
        )
        self.decoder.build((None, None, None, variant.dims[-1]))
        self.built = True
        if weights is not None:
            self._load(weights)

    def _load(self, weights):
        """Fills the encoder, and the decoder where the file has one."""
        from keras_convnext import pretrained  # the readers of files are imported if one is read

        checkpoint = pretrained.open_checkpoint(weights, self.variant, include_top=False)
        if any(name.startswith("decoder/") for name in checkpoint.file.match.others):
            self.load_weights(checkpoint.path)  # a whole model of ours
        else:
            has_decoder = checkpoint.found("decoder/proj/kernel")
            checkpoint.load_into(self if has_decoder else self.encoder)

    @property
    def mask_ratio(self):
        """Part of the patches that is hidden."""
        return self.masks.ratio

    @property
    def patch_size(self):
        """Side of a patch in pixels."""
        return self.masks.patch_size

    def call(self, inputs, training=False, patches=None):
        images = self.normalized(inputs)
        rows, columns = self.masks.grid(images.shape)
        if patches is None:
            hidden = self.masks(images, training=training)
            visible = self.masks.visible(rows * columns)
            patches = VisiblePatches(hidden, visible, self.grn_over == "batch")
        _check_patches(patches, rows, columns)
        features = masked_stages(self.encoder, images, patches, training)[-1]
        prediction = self.decoder(patches.unpack(features), patches.mask, training=training)
        return {"prediction": prediction, "mask": patches.mask}

    def normalized(self, images):
        """Returns images as the encoder sees them: channels last, in float32, normalised.

        Raises:
            ValueError: if they have another number of axes or channels.
        """
        images = ops.convert_to_tensor(images)
        if keras.config.image_data_format() == "channels_first" and len(images.shape) == 4:
            images = ops.transpose(images, (0, 2, 3, 1))
        if len(images.shape) != 4 or images.shape[-1] != self.channels:
            raise ValueError(
                f"{self.name} takes images (batch, height, width, {self.channels}), received an "
                f"array of shape {tuple(images.shape)}. For other numbers of channels build it "
                "with `channels=`."
            )
        if self.include_preprocessing:
            return self.encoder.get_layer("preprocessing")(images)
        return ops.cast(images, "float32")

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        if self._compile_loss is not None or self._compile_metrics is not None:
            raise ValueError(
                f"{self.name} computes its loss itself and knows no labels to measure: compile it "
                "with an optimizer alone, `model.compile(optimizer)`."
            )
        if y is not None:
            warnings.warn(
                f"{self.name} learns without labels: those of the data are ignored.", stacklevel=2
            )
        prediction, hidden = y_pred["prediction"], y_pred["mask"]
        loss = reconstruction_loss(
            self.normalized(x), prediction, hidden, self.normalize_targets, sample_weight
        )
        return sum(self.losses, loss)  # those of regularizers

    def reconstructions(self, images, mask=None):
        """Returns a picture with a row per image: original, masked, and with what is predicted.

        The columns have headings. What was visible is that of the original. With
        `normalize_targets` the model predicts each patch but for its mean and standard deviation,
        which are taken from the original.

        Args:
            images: as of `fit`, a few of them.
            mask: `(batch, rows, columns)`, 1 where a patch is hidden, with the same number in every
                image; `None`: random ones, always the same.

        Returns:
            uint8 `(height, width, 3)`; `keras_convnext.pictures.save_png` writes it.

        Raises:
            ValueError: if the images or the mask do not fit.
        """
        from keras_convnext.pretraining.pictures import reconstructions

        return reconstructions(self, images, mask)

    def pixels(self, normalized):
        """Returns normalised images, an array, in the range [0, 255]."""
        layer = preprocessing(self.variant, self.channels)
        layer.build((None, None, None, self.channels))
        mean, variance = (ops.convert_to_numpy(v) for v in (layer.mean, layer.variance))
        return normalized * variance**0.5 + mean

    def get_config(self):
        config = {
            name: getattr(self, name)
            for name in (
                "mask_ratio include_preprocessing channels normalize_targets grn_over"
            ).split()
        }
        return {
            "name": self.name,
            "dtype": keras.saving.serialize_keras_object(self.dtype_policy),
            "trainable": self.trainable,
            "variant": dataclasses.asdict(self.variant),
            "decoder_depth": self.decoder.depth,
            "decoder_width": self.decoder.width,
            "seed": self.masks.seed,
            **config,
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        return cls(**{**config, "variant": Variant(**config["variant"])})


def _bare(variant, stem_stride):
    """Returns the `Variant` of the encoder: the one that is meant, without its last norm."""
    variant = variant_of(variant)
    if stem_stride is not None:
        variant = variant.with_stem_stride(stem_stride)
    return dataclasses.replace(variant, head_norm=False)


def _check_patches(patches, rows, columns):
    if (patches.rows, patches.columns) != (rows, columns):
        raise ValueError(
            f"The images have {rows} x {columns} patches, received a mask of {patches.rows} x "
            f"{patches.columns}."
        )
