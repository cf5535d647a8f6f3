"""`DetectionModel`: how the parts of Mask R-CNN and Cascade Mask R-CNN work together.

`pyramid`, the ConvNeXt with the norms `norm0` to `norm3` behind its stages, `neck`, `rpn_head`, and
for each stage a `box_head` and a `mask_head`.
"""

import dataclasses
from typing import NamedTuple

import keras
from keras import ops

from keras_convnext.detection import losses, proposals
from keras_convnext.detection.anchor_boxes import anchors, usable
from keras_convnext.detection.assigning import SampleOrder
from keras_convnext.detection.heads import BOX_SIDE, MASK_SIDE
from keras_convnext.detection.settings import MULTIPLE, STRIDES, Settings
from keras_convnext.features import functional
from keras_convnext.layers.remat import KeepsItsCall
from keras_convnext.models.dense_prediction import LEVELS

PARTS = ("pyramid", "neck", "rpn_head", "box_heads", "mask_heads")  # of a `DetectionModel`
LOSSES = ("rpn_class_loss", "rpn_box_loss", "class_loss", "box_loss", "mask_loss")
SPREAD, KEYS = 20249, 32768  # the multiples of the one modulo the other are spread evenly


@functional
class DetectionModel(KeepsItsCall, keras.Model):
    """A ConvNeXt with the heads of Mask R-CNN or Cascade Mask R-CNN.

    `MaskRCNN(...)` and `CascadeMaskRCNN(...)` make one. Called with images `(batch, height, width,
    3)`, whose sides are multiples of 32 pixels, or with a dict:

    - `"images"`;
    - `"image_shape"` `(batch, 2)`: height and width of each image without the padding at the bottom
      and on the right; without it nothing is padding;
    - `"boxes"` `(batch, objects, 4)`: x1, y1, x2, y2 of the objects, in pixels;
    - `"labels"` `(batch, objects)`: their classes from 0; a negative one stands for no object, and
      so does a box without area. The loss is NaN where a label is too large, or an object's box is
      NaN or infinite;
    - `"masks"` `(batch, objects, height, width)`: 0 or 1; or `"mask_crops"` `(batch, objects, h,
      w)`: what is within their boxes, at any size. Not asked for without mask heads.

    it returns `{"boxes": (batch, n, 4), "scores": (batch, n), "labels": (batch, n), "masks":
    (batch, n, 28, 28)}`, n = `settings.detections`: boxes in pixels from the best to the worst,
    scores from 0 to 1, classes, and the probabilities of what is within the boxes. A label of -1
    stands for no detection. With `training=True` it returns the losses, a dict of scalars, whose
    sum `fit` minimises; to `compile`, no loss and no metric is given:

        model.compile("adamw")
        model.fit(dataset)   # of such dicts

    Sources: arXiv 2201.03545, section 4 (Table 3) and Appendix A.3; 1703.06870; 1906.09756.

    Attributes:
        pyramid: the ConvNeXt with its norms, a functional model to `{"P2": ..., "P5": ...}`.
        settings: the `Settings`.
        classes: number of classes.
        published: name of the published weights that the model began with, or `None`.

    Example:
        import numpy as np
        from keras_convnext.detection import MaskRCNNConvNeXtTiny
        model = MaskRCNNConvNeXtTiny("coco")
        found = model.predict({"images": np.zeros((1, 64, 64, 3), "uint8")}, verbose=0)
        found["boxes"].shape[::2]  # (1, 4)
        model.compile("adamw")  # and `model.fit(dataset)`, of dicts with boxes and labels
    """

    published = None
    _is_validated = False  # while `evaluate` calls the model, which asks for losses alone

    def __init__(
        self, pyramid, neck, rpn_head, box_heads, mask_heads, settings, name=None, dtype=None
    ):
        # Keras would cast the boxes to the dtype of the computation, which rounds them to 8 pixels
        super().__init__(name=name, dtype=dtype, autocast=False)
        self.pyramid, self.neck, self.rpn_head = pyramid, neck, rpn_head
        self.box_heads, self.mask_heads = list(box_heads), list(mask_heads)
        self.settings = settings
        self.sample_order = SampleOrder(name="sample_order")
        self._build_heads()
        names = LOSSES if self.mask_heads else LOSSES[:-1]
        self.loss_means = [keras.metrics.Mean(name=name) for name in names]
        if keras.backend.backend() == "tensorflow":
            self.supports_jit = False  # XLA would compile for each new size of an image
        self.built = True

    def _build_heads(self):
        shapes = [self.pyramid.pyramid_outputs[level].shape for level in LEVELS]
        width = self.neck.channels
        _build(self.neck, shapes)
        _build(self.rpn_head, (*shapes[0][:-1], width))
        for head in self.box_heads:
            _build(head, (None, BOX_SIDE, BOX_SIDE, width))
        for head in self.mask_heads:
            _build(head, (None, MASK_SIDE, MASK_SIDE, width))

    @property
    def classes(self):
        """Number of classes, without the background."""
        return self.box_heads[0].classes

    @property
    def variant(self):
        """The `Variant` of the ConvNeXt."""
        return self.pyramid.variant

    def call(self, inputs, training=False):
        if training or self._is_validated:
            return self.losses_of(inputs, training)
        inputs = self._checked(inputs)
        image_shape = _image_shape(inputs)
        maps = self._maps(inputs["images"], training=False)
        boxes, valid = self._proposals(self._regions(maps), image_shape, "test")
        heads = (self.box_heads, self.mask_heads)
        return proposals.detect(self.settings, *heads, maps[:-1], boxes, valid, image_shape)

    def losses_of(self, inputs, training=False):
        """Returns the losses, a dict of float32 scalars.

        Args:
            inputs: a dict with objects; see `DetectionModel`.
            training: whether the layers are in training. In validation the samples are not random.
        """
        inputs = self._checked(inputs)
        objects, image_shape = self._objects(inputs), _image_shape(inputs)
        maps = self._maps(inputs["images"], training)
        regions = self._regions(maps)
        found = self._region_losses(regions, objects, image_shape, training)
        boxes, valid = self._proposals(regions, image_shape, "train")
        for number, stage in enumerate(self.settings.stages):
            terms, boxes, valid = self._stage(
                number, maps[:-1], boxes, valid, objects, image_shape, training
            )
            for name, term in terms.items():
                found[name] = found.get(name, 0.0) + stage.weight * term
        known = ops.all(objects.labels < self.classes)
        found["class_loss"] = ops.where(known, found["class_loss"], float("nan"))
        return found

    def _maps(self, images, training):
        found = self.pyramid(images, training=training)
        return self.neck([found[level] for level in LEVELS])

    def _regions(self, maps):
        logits, deltas = zip(*map(self.rpn_head, maps), strict=True)
        sizes = [tuple(ops.shape(x)[1:3]) for x in maps]
        as_float32 = ([ops.cast(x, "float32") for x in parts] for parts in (logits, deltas))
        return _Regions(*as_float32, anchors(sizes, STRIDES), sizes)

    def _proposals(self, regions, image_shape, kind):
        logits, deltas = (list(map(ops.stop_gradient, x)) for x in (regions.logits, regions.deltas))
        candidates = getattr(self.settings, f"{kind}_candidates")
        count = getattr(self.settings, f"{kind}_proposals")
        overlap = self.settings.region_overlap
        return proposals.propose(
            logits, deltas, regions.anchors, image_shape, candidates, count, overlap
        )

    def _region_losses(self, regions, objects, image_shape, training):
        border = 0 if self.settings.inside else None
        trained = ops.concatenate(usable(regions.sizes, STRIDES, image_shape, border), axis=1)
        logits, deltas = (ops.concatenate(x, axis=1) for x in (regions.logits, regions.deltas))
        grid = ops.concatenate(regions.anchors, axis=0)
        order = self._order(trained, training)
        found = losses.region_losses(self.settings, logits, deltas, grid, trained, objects, order)
        return dict(zip(LOSSES[:2], found, strict=True))

    def _stage(self, number, maps, boxes, valid, objects, image_shape, training):
        """Returns the losses of a stage, and the boxes for the next one."""
        settings, stage, head = self.settings, self.settings.stages[number], self.box_heads[number]
        order = self._order(ops.concatenate([objects.valid, valid], axis=1), training)
        sample = losses.sample_boxes(settings, stage, self.classes, boxes, valid, objects, order)
        logits, deltas = proposals.box_outputs(head, maps, sample.boxes, training, sample.used)
        found = {
            "class_loss": losses.class_loss(logits, sample),
            "box_loss": losses.box_loss(settings, stage, deltas, sample),
        }
        if self.mask_heads:
            found["mask_loss"] = self._mask_loss(number, maps, sample, objects)
        boxes = proposals.refine(sample.boxes, logits, deltas, stage, image_shape, sample.labels)
        return found, boxes, ops.logical_and(sample.used, ops.logical_not(sample.own))

    def _mask_loss(self, number, maps, sample, objects):
        some = losses.first(sample, self.settings.mask_samples)
        labels = ops.minimum(some.labels, self.classes - 1)
        logits = proposals.mask_logits(self.mask_heads[number], maps, some.boxes, labels)
        targets = losses.mask_targets(some, objects, 2 * MASK_SIDE)
        return losses.mask_loss(logits, targets, some.positive)

    def _order(self, like, training):
        """Returns the keys by which a sampler chooses, or `None` where it takes the first."""
        if self.settings.sampling == "first":
            return None
        if training:
            return self.sample_order(like)
        keys = ops.arange(ops.shape(like)[1], dtype="int32") % KEYS * SPREAD % KEYS
        return ops.broadcast_to(ops.cast(keys, "float32"), ops.shape(like))

    def _checked(self, inputs):
        inputs = dict(inputs) if isinstance(inputs, dict) else {"images": inputs}
        if "images" not in inputs:
            raise ValueError(
                f"{self.name} needs images: pass an array or a dict with the key 'images', "
                f"received the keys {sorted(inputs)}."
            )
        shape, channels = inputs["images"].shape, self.pyramid.input_shape[-1]
        fits = len(shape) == 4 and shape[-1] == channels
        if not fits or any(side is not None and side % MULTIPLE for side in shape[1:3]):
            raise ValueError(
                f"Images must be (batch, height, width, {channels}) with sides that "
                f"are multiples of {MULTIPLE}, received {tuple(shape)}: pad them at the bottom and "
                "on the right, and say their size without the padding in `image_shape`; a "
                "`Detector` does."
            )
        return inputs

    def _objects(self, inputs):
        needed = ["boxes", "labels"]
        crops = "mask_crops" in inputs
        if self.mask_heads:
            needed.append("mask_crops" if crops else "masks")
        missing = [key for key in needed if key not in inputs]
        if missing:
            raise ValueError(
                f"{self.name} is trained on a dict with the keys {['images', *needed]}; "
                f"{', '.join(missing)} is missing. For boxes without masks build it with "
                "`masks=False`."
            )
        found = {key: ops.convert_to_tensor(inputs[key]) for key in needed}
        self._check_objects(found, inputs["images"].shape)
        if not found["boxes"].shape[1]:  # none, or a number that the graph does not know
            found = {key: _with_one_more(value) for key, value in found.items()}
        boxes, labels = ops.cast(found["boxes"], "float32"), ops.cast(found["labels"], "int32")
        finite = ops.all(ops.isfinite(boxes), axis=-1)
        there = ops.all(boxes[..., 2:] > boxes[..., :2], axis=-1)
        # of a box that is not finite the loss becomes NaN, as of a class that is not there
        known = ops.where(finite, ops.where(there, labels, -1), self.classes)
        labels = ops.where(labels >= 0, known, -1)
        boxes = ops.where(finite[..., None], boxes, 0.0)
        masks = found[needed[-1]] if self.mask_heads else None
        return losses.Objects(boxes, labels, masks, crops)

    def _check_objects(self, objects, image_shape):
        """Raises the ValueError of objects whose shapes do not fit each other or the images."""
        shapes = {key: tuple(value.shape) for key, value in objects.items()}
        count = shapes["boxes"][1] if len(shapes["boxes"]) > 1 else None
        sides = image_shape[1:3] if "masks" in objects else (None, None)
        wanted = {"boxes": (count, 4), "labels": (count,)}
        wanted |= {key: (count, *sides) for key in ("masks", "mask_crops") if key in objects}
        for key, shape in wanted.items():
            shape = (image_shape[0], *shape)
            given = shapes[key]
            fits = len(given) == len(shape) and all(
                None in (a, b) or a == b for a, b in zip(given, shape, strict=True)
            )
            if not fits:
                raise ValueError(
                    f"{key!r} must be {_written(shape)} here, as the images and the boxes are, "
                    f"received {_written(given)}."
                )

    def compute_output_spec(self, inputs, training=False):
        if training:
            names = [mean.name for mean in self.loss_means]
            return {name: keras.KerasTensor((), dtype="float32", name=name) for name in names}
        images = inputs["images"] if isinstance(inputs, dict) else inputs
        return proposals.detection_spec(self.settings, images.shape[0], bool(self.mask_heads))

    def compile(self, optimizer="adamw", loss=None, metrics=None, **kwargs):
        """As `keras.Model.compile`, without loss and metrics: the losses are the detector's own.

        Raises:
            ValueError: if a loss or metrics are given.
        """
        others = [kwargs.pop(name, None) for name in ("loss_weights", "weighted_metrics")]
        if loss is not None or metrics or any(others):
            raise ValueError(
                f"{self.name} has losses of its own: omit `loss` and `metrics`. The average "
                "precision of its detections is measured after an epoch, by a callback."
            )
        super().compile(optimizer=optimizer, **kwargs)

    def compile_from_config(self, config):
        config = keras.saving.deserialize_keras_object(config)
        own = ("loss", "loss_weights", "metrics", "weighted_metrics")
        self.compile(**{key: value for key, value in config.items() if key not in own})
        self.optimizer.build(self.trainable_variables)

    def test_step(self, *arguments):
        self._is_validated = True
        try:
            return super().test_step(*arguments)
        finally:
            self._is_validated = False

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        for mean in self.loss_means:
            mean.update_state(y_pred[mean.name])
        # what Keras does with each loss: it divides by the number of replicas where there are some
        terms = [*(y_pred[mean.name] for mean in self.loss_means), *self.losses]
        return sum(self._aggregate_additional_loss(term) for term in terms)

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        return self.get_metrics_result()

    def get_config(self):
        serialize = keras.saving.serialize_keras_object
        config = {name: serialize(getattr(self, name)) for name in PARTS}
        settings = dataclasses.asdict(self.settings)
        config |= {"settings": settings, "name": self.name, "trainable": self.trainable}
        config["dtype"] = keras.dtype_policies.serialize(self.dtype_policy)
        return config | ({"published": self.published} if self.published else {})

    @classmethod
    def from_config(cls, config, custom_objects=None):
        config = dict(config)
        published, trainable = config.pop("published", None), config.pop("trainable", True)
        parts = {
            name: keras.saving.deserialize_keras_object(config[name], custom_objects)
            for name in PARTS
        }
        settings = Settings(**config["settings"])
        dtype = config.get("dtype")
        model = cls(**parts, settings=settings, name=config["name"], dtype=dtype)
        model.published = published
        if not trainable:
            model.trainable = False
        return model


class _Regions(NamedTuple):
    """What is said of the anchors; a list of one array for each level in each field."""

    logits: list
    deltas: list
    anchors: list
    sizes: list


def _with_one_more(objects):
    """Returns an array of n objects, `(batch, n, ...)`, and of one that is none."""
    padding = [[0, 0], [0, 1], *([0, 0] for _ in objects.shape[2:])]
    fill = -1 if len(objects.shape) == 2 else 0
    return ops.pad(objects, padding, constant_values=fill)


def _written(shape):
    return "(" + ", ".join("any" if side is None else str(side) for side in shape) + ")"


def _build(layer, shape):
    if not layer.built:
        layer.build(shape)


def _image_shape(inputs):
    if inputs.get("image_shape") is not None:
        return ops.cast(inputs["image_shape"], "float32")
    batch, height, width = ops.shape(inputs["images"])[:3]
    shape = ops.cast(ops.stack([height, width]), "float32")
    return ops.broadcast_to(shape, (batch, 2))
