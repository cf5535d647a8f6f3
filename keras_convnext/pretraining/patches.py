"""Masks of patches, and maps of features without the patches that they hide.

A submanifold sparse convolution equals a dense one on a map that is zero where nothing is visible,
read at the visible places alone. All other layers of a ConvNeXt compute pixel by pixel, or within a
patch, so that they need the visible patches only: these are kept one below another, as one narrow
map. Only a depthwise convolution needs them in their places.
"""

import keras
import numpy as np
from keras import ops

from keras_convnext import checks
from keras_convnext.layers import ReplicaSeedGenerator, Seeded

EVALUATION_SEED = 0  # of the masks outside of training, which are always the same


class VisiblePatches:
    """Which patches of a batch of images are visible; maps are packed to these, and unpacked.

    Args:
        mask: bool `(batch, rows, columns)`, true where a patch is hidden; `rows` and `columns` are
            known. See `visible_patches` for a mask of NumPy.
        visible: number of visible patches of every image.
        as_one: whether the patches of all images are packed into one map. What a layer computes
            over a map, such as the norm of GRN, is then computed over the batch.

    Attributes:
        mask: as given.

    Example:
        import keras
        from keras_convnext.pretraining import VisiblePatches
        mask = keras.ops.convert_to_tensor([[[True, False], [False, True]]])
        patches = VisiblePatches(mask, visible=2)
        patches.pack(keras.ops.ones((1, 8, 8, 3))).shape  # (1, 8, 4, 3)
    """

    def __init__(self, mask, visible, as_one=False):
        self.mask, self.visible, self.as_one = mask, visible, as_one
        self.rows, self.columns = mask.shape[1:]
        count = self.rows * self.columns
        hidden = ops.cast(ops.reshape(mask, (-1, count)), "int32")
        # the visible ones first, each in its order
        order = ops.argsort(hidden * count + ops.arange(count, dtype="int32"), axis=-1)
        order = ops.cast(order, "int32")
        rank = ops.cast(ops.argsort(order, axis=-1), "int32")
        image = ops.expand_dims(ops.arange(ops.shape(order)[0], dtype="int32"), -1)
        self._sources = ops.reshape(image * count + order[:, :visible], (-1,))
        # a hidden place takes any patch, and then zeros; the remainder spreads the choice
        self._packed = ops.reshape(image * visible + rank % visible, (-1,))
        self._is_visible = ops.reshape(rank < visible, (-1, 1))

    def pack(self, x):
        """Returns the visible patches of a map, one below another.

        Args:
            x: `(batch, height, width, channels)`; height and width are multiples of `rows` and
                `columns`, and patches are squares.

        Returns:
            `(batch, visible * side, side, channels)`, with `as_one` `(1, batch * visible * side,
            side, channels)`.
        """
        side, channels = x.shape[1] // self.rows, x.shape[-1]
        x = ops.reshape(x, (-1, self.rows, side, self.columns, side * channels))
        x = ops.reshape(ops.transpose(x, (0, 1, 3, 2, 4)), (-1, side * side * channels))
        x = ops.take(x, self._sources, axis=0)
        if self.as_one:
            return ops.reshape(x, (1, -1, side, channels))
        return ops.reshape(x, (-1, self.visible * side, side, channels))

    def unpack(self, x):
        """Returns the map of packed patches: what `pack` was given, with zeros where it is hidden.

        Args:
            x: as `pack` returns it, with any number of channels.
        """
        side, channels = x.shape[2:]
        x = ops.reshape(x, (-1, side * side * channels))
        x = ops.take(x, self._packed, axis=0) * ops.cast(self._is_visible, x.dtype)
        x = ops.reshape(x, (-1, self.rows, self.columns, side, side * channels))
        x = ops.transpose(x, (0, 1, 3, 2, 4))
        return ops.reshape(x, (-1, self.rows * side, self.columns * side, channels))

    def hide(self, x):
        """Returns a map `(batch, height, width, channels)` with zeros in place of the hidden
        patches, whatever is there."""
        height, width, channels = x.shape[1:]
        side = height // self.rows
        parts = ops.reshape(x, (-1, self.rows, side, self.columns, side, channels))
        hidden = self.mask[:, :, None, :, None, None]
        parts = ops.where(hidden, ops.zeros_like(parts), parts)
        return ops.reshape(parts, (-1, height, width, channels))


def visible_patches(mask, as_one=False):
    """Returns the `VisiblePatches` of a mask of your own.

    Args:
        mask: array `(batch, rows, columns)` of bool or of 0 and 1; true, or 1, hides a patch.
        as_one: as of `VisiblePatches`.

    Raises:
        ValueError: if it has another number of axes or other values, hides other numbers of patches
            in some images than in others, or all of them.

    Example:
        import numpy as np
        from keras_convnext.pretraining import visible_patches
        patches = visible_patches(np.array([[[1, 0], [0, 1]]]))  # `model(images, patches=patches)`
        patches.visible  # 2
    """
    mask = np.asarray(mask)
    if mask.ndim != 3 or not mask.size or not np.isin(mask, (0, 1)).all():
        raise ValueError(
            "A mask must be (batch, rows, columns) of bool, or of 0 and 1, with one value per "
            f"patch, received an array of {mask.dtype} and shape {mask.shape}."
        )
    counts = (mask == 0).sum((1, 2))
    if counts.min() != counts.max() or not counts.min():
        raise ValueError(
            "A mask must leave the same number of patches visible in every image, at least one, "
            f"received one that leaves {counts.min()} to {counts.max()}."
        )
    return VisiblePatches(ops.convert_to_tensor(mask.astype(bool)), int(counts[0]), as_one)


@keras.saving.register_keras_serializable(package="keras_convnext")
class RandomMasks(Seeded):
    """Draws which patches of each image are hidden, the same number in every image.

    In training the masks come from a `keras.random.SeedGenerator`, whose state is saved with the
    layer; outside of training they are the same for every batch.

    Source: arXiv 2301.00808, section 3.1.

    Args:
        ratio: part of the patches that is hidden, in (0, 1).
        patch_size: side of a patch in pixels.
        seed: int, or `None` for one drawn when the layer is made
            (`keras.utils.set_random_seed` fixes it).

    Input: `(batch, height, width, channels)`, of known height and width.
    Output: bool `(batch, height / patch_size, width / patch_size)`, true where a patch is hidden.

    Raises:
        ValueError: if `ratio` or a size is not allowed, or no patch would be visible.
    """

    def __init__(self, ratio=0.6, patch_size=32, seed=None, **kwargs):
        super().__init__(**kwargs)
        self.ratio = checks.number("mask_ratio", ratio, above=0, below=1)
        self.patch_size = checks.integer("patch_size", patch_size, 1)
        self.seed = seed
        self.seed_generator = ReplicaSeedGenerator(seed, name="seed_generator")

    def grid(self, shape):
        """Returns the rows and columns of patches of images of that shape; see the class."""
        height, width = shape[1:3]
        side = self.patch_size
        if height is None or width is None:
            raise ValueError(
                "The height and width of the images must be known before they are masked, received "
                f"the shape {tuple(shape)}: crop or resize them to one size."
            )
        if height % side or width % side or not height * width:
            raise ValueError(
                f"Patches of {side} x {side} pixels are masked: the height and width of the images "
                f"must be multiples of {side}, received {height} x {width}. Crop or resize them."
            )
        return height // side, width // side

    def visible(self, count):
        """Returns how many of `count` patches stay visible: rounded down, as the authors do."""
        visible = int(count * (1 - self.ratio) + 1e-6)  # 10 * (1 - 0.9) is a little below 1
        if not visible:
            side = self.patch_size
            raise ValueError(
                f"`mask_ratio` {self.ratio:g} leaves none of the {count} patches of {side} x "
                f"{side} pixels visible: lower it, enlarge the images, or build the model with a "
                "smaller `stem_stride`, which makes the patches smaller."
            )
        return visible

    def call(self, inputs, training=False):
        rows, columns = self.grid(inputs.shape)
        count = rows * columns
        seed = self.seed_generator if training else EVALUATION_SEED
        shape = (ops.shape(inputs)[0], count)
        noise = keras.random.uniform(shape, dtype="float32", seed=seed)
        rank = ops.argsort(ops.argsort(noise, axis=-1), axis=-1)
        return ops.reshape(rank >= self.visible(count), (-1, rows, columns))

    def compute_output_spec(self, inputs, training=False):
        rows, columns = self.grid(inputs.shape)
        return keras.KerasTensor((inputs.shape[0], rows, columns), "bool")

    def load_own_variables(self, store):
        self.seed_generator.state.assign(store["seed_generator_state"])  # no file is without

    def get_config(self):
        own = {"ratio": self.ratio, "patch_size": self.patch_size, "seed": self.seed}
        return {**super().get_config(), **own}
