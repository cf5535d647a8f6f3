"""What a detector found on a photo: boxes, scores, classes and masks at the photo's own size."""

import collections.abc
import dataclasses
import functools

import numpy as np

from keras_convnext.detection import drawing, pasting, rle
from keras_convnext.images import load_image


@dataclasses.dataclass(frozen=True, eq=False)
class Detections:
    """The objects on a photo, those with the highest scores first.

    Attributes:
        boxes: float32 (n, 4): x1, y1, x2, y2 in pixels of the photo, within it.
        scores: float32 (n,) in [0, 1].
        labels: int32 (n,): classes, from 0.
        names: n names of these classes, str; "class 7" where none are known.
        size: (height, width) of the photo in pixels.
        categories: int64 (n,): ids of these classes in files of COCO's format.
        crops: float32 (n, 28, 28): probabilities of the pixels within each box, or `None` of a
            detector without masks.
        upright: whether these pixels are counted in the photo as it is turned by its EXIF.

    Example:
        from keras_convnext.detection import Detector, MaskRCNNConvNeXtTiny
        found = Detector(MaskRCNNConvNeXtTiny("coco"), size=(320, 533))("photo.jpg")
        print([(name, score) for name, score in zip(found.names, found.scores)])
        sure = found[found.scores > 0.5]
        sure.draw("photo.jpg").save("seen.png")
    """

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    names: tuple
    size: tuple
    categories: np.ndarray
    crops: np.ndarray | None = None
    upright: bool = False

    def __len__(self):
        return len(self.boxes)

    def __getitem__(self, which):
        """Returns the `Detections` of some of the objects.

        Args:
            which: a slice, bool array (n,) or indices.
        """
        indices = np.atleast_1d(np.arange(len(self))[which])
        fields = ("boxes", "scores", "labels", "categories", "crops")
        parts = {field: getattr(self, field) for field in fields}
        parts = {field: part if part is None else part[indices] for field, part in parts.items()}
        names = tuple(self.names[index] for index in indices)
        return dataclasses.replace(self, names=names, **parts)

    def __repr__(self):
        found = (f"{name} {score:.2f}" for name, score in zip(self.names, self.scores, strict=True))
        return f"Detections({len(self)}: {', '.join(found)})"

    @functools.cached_property
    def masks(self):
        """Which pixels of the photo are of each object, bool (n, height, width), or `None` of a
        detector without masks. Computed when it is first asked for; `windows` needs less memory."""
        if self.crops is None:
            return None
        return pasting.paste_all(self.crops, self.boxes, *self.size)

    def windows(self):
        """Returns the masks as a sequence, or `None` of a detector without masks.

        Each is what `pasting.paste` returns, when it is asked for: the bool array of the pixels
        around the box, and the place (top, left) of the first of them in the photo.
        """
        return None if self.crops is None else _Windows(self)

    def draw(self, image, threshold=0.3, opacity=0.45):
        """Returns the photo with boxes, masks, names and scores, as a `PIL.Image.Image`.

        Args:
            image: the photo, anything that `load_image` takes.
            threshold: objects with lower scores are left out.
            opacity: of the masks, in [0, 1].

        Raises:
            ValueError: if the photo has another size than that of the detections.
        """
        image = load_image(image, self.upright)
        if image.size != self.size[::-1]:
            raise ValueError(
                f"The detections are of a photo of {self.size[1]} x {self.size[0]} pixels, "
                f"received one of {image.width} x {image.height}."
            )
        shown = self[self.scores >= threshold]
        pairs = zip(shown.names, shown.scores, strict=True)
        texts = [f"{name} {100 * score:.0f} %" for name, score in pairs]
        return drawing.draw(image, shown.boxes, texts, shown.windows(), opacity)

    def to_coco(self, image_id):
        """Returns the objects as a file of COCO's results has them, a list of dicts.

        Each has "image_id", "category_id", "bbox" ([x, y, width, height] in pixels), "score" and,
        where there are masks, "segmentation" (see `keras_convnext.detection.rle`).

        Args:
            image_id: of the photo, in the file of annotations.
        """
        x1, y1, x2, y2 = self.boxes.astype("float64").T
        found = [
            {
                "image_id": image_id,
                "category_id": int(category),
                "bbox": [float(side) for side in box],
                "score": float(score),
            }
            for category, box, score in zip(
                self.categories, np.stack([x1, y1, x2 - x1, y2 - y1], 1), self.scores, strict=True
            )
        ]
        if self.crops is not None:
            for row, (window, top, left) in zip(found, self.windows(), strict=True):
                row["segmentation"] = rle.encode(window, self.size, top, left)
        return found


class _Windows(collections.abc.Sequence):
    """The masks of `Detections`, computed one by one: those of a large photo are large."""

    def __init__(self, detections):
        self._detections = detections

    def __len__(self):
        return len(self._detections)

    def __getitem__(self, number):
        found = self._detections
        return pasting.paste(found.crops[number], found.boxes[number], *found.size)
