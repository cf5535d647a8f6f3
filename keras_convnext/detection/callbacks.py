"""`COCOScores`: COCO's average precision of the validation images at the end of each epoch."""

from collections.abc import Mapping

import keras
import numpy as np

from keras_convnext import checks
from keras_convnext.detection import pasting, rle
from keras_convnext.detection.metrics import average_precision, check_available

NEEDED = ("images", "boxes", "labels")
REPORTED = ("ap", "ap50")


class COCOScores(keras.callbacks.Callback):
    """Predicts the validation images after each epoch of `fit` and reports COCO's scores.

        model.fit(dataset, callbacks=[COCOScores(validation), ModelCheckpoint(
            "best.keras", monitor="val_box_ap", mode="max", save_best_only=True)])

    The logs get `val_box_ap`, `val_box_ap50` and, where model and data have masks, `val_mask_ap`
    and `val_mask_ap50`, in [0, 1]. Callbacks that look at them stand behind this one. Objects count
    at the size that they have in the batches: what is reported is not the score of a set, which is
    measured at the photographs' own sizes.

    Args:
        dataset: what `fit` takes for a detector: an iterable of batches, dicts with `images`,
            `boxes`, `labels`, and optionally `image_shape`, `masks` or `mask_crops`, and `weights`
            (batch,): an image of weight 0 fills up its batch and is not scored; or one such dict
            with all images. A batch may also be a tuple that begins with the dict.
        batch_size: images that are predicted at once where `dataset` is one dict.

    Attributes:
        scores: of the last epoch, `{"box": DetectionScores, "mask": DetectionScores}`.

    Raises:
        ImportError: if neither `pycocotools` nor `faster-coco-eval` is installed.
        ValueError: if `batch_size` is no integer >= 1, or `dataset` is an iterator, which ends with
            the first epoch; in `measure`, if a batch has other contents or the whole set has no
            objects.

    Example:
        # pip install "keras-convnext[coco]"
        import numpy as np
        from keras_convnext.detection import COCOScores, MaskRCNNConvNeXtTiny
        boxes, labels = np.float32([[[4, 8, 40, 50]]]), np.array([[1]])
        images = np.zeros((1, 64, 64, 3), "uint8")
        scores = COCOScores({"images": images, "boxes": boxes, "labels": labels})
        scores.measure(MaskRCNNConvNeXtTiny("coco"))  # what `fit(..., callbacks=[scores])` reports
    """

    def __init__(self, dataset, batch_size=8):
        super().__init__()
        check_available()
        if hasattr(dataset, "__next__"):
            raise ValueError(
                f"`dataset` must be read anew in each epoch, received the iterator {dataset!r}: "
                "pass a list, a dict of arrays, a `PyDataset` or a `tf.data.Dataset`."
            )
        self.dataset, self.scores = dataset, {}
        self.batch_size = checks.integer("batch_size", batch_size, 1)

    def on_epoch_end(self, epoch, logs=None):
        found = self.measure(self.model)
        if logs is not None:
            logs.update({f"val_{name}": value for name, value in found.items()})

    def measure(self, model):
        """Returns `{"box_ap": ..., "box_ap50": ...}` of a detector, in [0, 1], and, with masks,
        `"mask_ap"` and `"mask_ap50"`."""
        collected = _Collected()
        for batch in self._batches():
            given = {key: batch[key] for key in ("images", "image_shape") if key in batch}
            collected.add(batch, _arrays(model.predict_on_batch(given)))
        self.scores = collected.scores()
        return {
            f"{kind}_{name}": getattr(scores, name)
            for kind, scores in self.scores.items()
            for name in REPORTED
        }

    def _batches(self):
        if isinstance(self.dataset, Mapping):
            whole = _checked(self.dataset)
            for first in range(0, len(whole["images"]), self.batch_size):
                yield {key: value[first : first + self.batch_size] for key, value in whole.items()}
        elif hasattr(self.dataset, "__getitem__") and not isinstance(self.dataset, (list, tuple)):
            for place in range(len(self.dataset)):  # a `PyDataset`
                yield _checked(self.dataset[place])
        else:
            yield from map(_checked, self.dataset)


def _checked(batch):
    """Returns a batch as a dict of arrays."""
    batch = batch[0] if isinstance(batch, (tuple, list)) else batch
    if not isinstance(batch, Mapping) or not set(NEEDED) <= set(batch):
        has = sorted(batch) if isinstance(batch, Mapping) else type(batch).__name__
        raise ValueError(
            f"A batch for COCOScores must be a dict with {', '.join(NEEDED)}, as for the training "
            f"of a detector; received {has}."
        )
    return _arrays(batch)


def _arrays(values):
    return {key: np.asarray(keras.ops.convert_to_numpy(value)) for key, value in values.items()}


class _Collected:
    """Ground truth and detections of some batches in COCO's formats."""

    def __init__(self):
        self.images, self.objects, self.results = [], [], []
        self.classes, self.masks = 0, True

    def add(self, batch, outputs):
        size = batch["images"].shape[1:3]
        has_masks = "masks" in outputs and ("masks" in batch or "mask_crops" in batch)
        self.masks = self.masks and has_masks
        for place in np.flatnonzero(batch.get("weights", np.ones(len(batch["images"])))):
            self.images.append({"id": len(self.images), "height": size[0], "width": size[1]})
            one = {key: value[place] for key, value in batch.items()}
            found = {key: value[place] for key, value in outputs.items()}
            self.objects += self._rows(one, size, has_masks, cropped="mask_crops" in batch)
            rows = self._rows(found, size, has_masks, cropped=True)
            scores = found["scores"][found["labels"] >= 0]
            self.results += [
                {**row, "score": float(score)} for row, score in zip(rows, scores, strict=True)
            ]

    def _rows(self, one, size, has_masks, cropped):
        """Returns the objects of one image that are no padding, a list of dicts."""
        rows, masks = [], one.get("masks" if "mask_crops" not in one else "mask_crops")
        for place in np.flatnonzero(one["labels"] >= 0):
            label, box = int(one["labels"][place]), one["boxes"][place].astype("float64")
            self.classes = max(self.classes, label + 1)
            row = {"image_id": len(self.images) - 1, "category_id": label}
            row["bbox"] = [*box[:2].tolist(), *np.maximum(box[2:] - box[:2], 0).tolist()]
            if has_masks and cropped:
                window, top, left = pasting.paste(masks[place], box, *size)
                row["segmentation"] = rle.encode(window, size, top, left)
            elif has_masks:
                row["segmentation"] = rle.encode(masks[place])
            rows.append(row)
        return rows

    def scores(self):
        """Returns `{"box": DetectionScores}`, and `"mask"` where all batches have masks."""
        if not self.objects:
            raise ValueError(
                f"The {len(self.images)} images for COCOScores have no objects: their labels are "
                "all -1, and there is nothing to find."
            )
        truth = {
            "images": self.images,
            "categories": [{"id": label} for label in range(self.classes)],
            "annotations": self.objects,
        }
        kinds = ("box", "mask") if self.masks else ("box",)
        return {kind: average_precision(truth, self.results, kind) for kind in kinds}
