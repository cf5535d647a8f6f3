"""The worst mistakes of a detector: objects it missed, false detections, masks that fit badly."""

import dataclasses

import numpy as np
from PIL import Image, ImageDraw

from keras_convnext.detection import drawing, rle

from .kept import Kept

LEAST_IOU = 0.5  # of a detection that stands for an object
SHOWN_SCORE = 0.3  # detections below are not drawn, and their masks are not looked at
MARGIN, LEAST_SIDE = 0.6, 96  # around a mistake: of its sides, and of the picture in pixels
SIDE = 320  # pixels of the longer side of a kept picture
MARKED = (255, 0, 0)
MISSED, WRONG, LOOSE = "missed", "wrong", "loose"
HEADINGS = {
    MISSED: "Objects that were missed, the largest first",
    WRONG: "Detections where no such object is, the highest score first",
    LOOSE: "Masks that fit their objects least",
}
FREE, ON_A_CROWD = -1, -2


@dataclasses.dataclass(frozen=True, eq=False)
class Objects:
    """What is annotated on a photograph.

    Attributes:
        boxes: float32 (n, 4), x1, y1, x2, y2 in pixels.
        labels: int (n,), classes as the detector numbers them.
        names: n names of these classes.
        crowds: bool (n,), which of them are crowds.
        size: (height, width) of the photograph.
        segmentations: n segmentations of COCO's, or `None` of a set without masks.
    """

    boxes: np.ndarray
    labels: np.ndarray
    names: tuple
    crowds: np.ndarray
    size: tuple
    segmentations: tuple | None = None

    def mask(self, place):
        """Returns the mask of an object, bool (height, width)."""
        return rle.decode(self.segmentations[place], *self.size)


@dataclasses.dataclass(frozen=True, eq=False)
class Mistake:
    """One mistake, with pictures of its place.

    Attributes:
        kind: `"missed"`, `"wrong"` or `"loose"`.
        name: the class of the object or of the detection.
        image: name of the photograph.
        box: float32 (4,), x1, y1, x2, y2 in pixels of the photograph.
        value: area of a missed object's box in pixels, score of a false detection, IoU of a mask.
        truth, found: uint8 (height, width, 3), what is annotated there and what was detected, each
            class in one colour; the mistake is framed in red.
    """

    kind: str
    name: str
    image: str
    box: np.ndarray
    value: float
    truth: np.ndarray
    found: np.ndarray

    @property
    def title(self):
        """What is said of it above its pictures."""
        if self.kind == MISSED:
            width, height = np.rint(self.box[2:] - self.box[:2]).astype(int)
            return f"{self.name}\n{width} x {height} pixels"
        value = "score" if self.kind == WRONG else "IoU of the masks"
        return f"{self.name}\n{value} {self.value:.2f}"


class WorstMistakes:
    """Collects the worst mistakes of a pass over a set.

    Args:
        keep: how many of each kind are kept at most.
    """

    def __init__(self, keep=6):
        self.kept = {kind: Kept(keep) for kind in HEADINGS}

    def add(self, name, image, truth, found):
        """Compares what is annotated on a photograph with what was detected.

        Args:
            name: of the photograph.
            image: Pillow image, RGB.
            truth: the `Objects`.
            found: the `Detections`.
        """
        pairs = matched(found, truth)
        scene = _Scene(name, image, truth, found)
        is_missed = ~truth.crowds & ~np.isin(np.arange(len(truth.boxes)), pairs)
        self._keep(MISSED, _areas(truth.boxes), is_missed, scene, truth)
        self._keep(WRONG, found.scores, pairs == FREE, scene, found)
        if truth.segmentations is not None and found.crops is not None:
            ious = np.ones(len(pairs))
            for place in np.flatnonzero((pairs >= 0) & (found.scores >= SHOWN_SCORE)):
                ious[place] = _mask_iou(found[int(place)].masks[0], truth.mask(pairs[place]))
            self._keep(LOOSE, -ious, ious < 1, scene, found)

    def _keep(self, kind, scores, chosen, scene, owner):
        def example(place):
            value = abs(float(scores[place]))
            return scene.mistake(kind, owner.names[place], owner.boxes[place], value)

        self.kept[kind].add(scores, np.flatnonzero(chosen), example)

    def result(self):
        """Returns `{kind: tuple of Mistakes}`, the worst first."""
        return {kind: kept.examples() for kind, kept in self.kept.items()}


@dataclasses.dataclass(frozen=True, eq=False)
class _Scene:
    """A photograph with what is annotated and what was detected."""

    name: str
    image: Image.Image
    truth: Objects
    found: object

    def mistake(self, kind, name, box, value):
        part = _around(box, self.image.size)
        places = range(len(self.truth.boxes))
        masks = self.truth.mask if self.truth.segmentations is not None else None
        truth = self._drawn(part, box, self.truth, places, masks)
        places = np.flatnonzero(self.found.scores >= SHOWN_SCORE).tolist()
        masks = None if self.found.crops is None else lambda place: self.found[place].masks[0]
        found = self._drawn(part, box, self.found, places, masks)
        return Mistake(kind, name, self.name, box, value, truth, found)

    def _drawn(self, part, box, owner, places, mask):
        """Returns the part of the photograph with what is in it, and the box framed."""
        left, top, right, bottom = part
        shift = np.array([left, top, left, top])
        boxes = owner.boxes
        places = [
            place
            for place in places
            if (boxes[place, :2] < part[2:]).all() and (boxes[place, 2:] > part[:2]).all()
        ]
        windows = None
        if mask is not None:
            windows = [(mask(place)[top:bottom, left:right], 0, 0) for place in places]
        texts = [owner.names[place] for place in places]
        crop = self.image.crop(part)
        kinds = 1 + owner.labels[places]  # the colour of kind 0 is that of the frame
        picture = drawing.draw(crop, boxes[places] - shift, texts, windows, least=SIDE, kinds=kinds)
        return _framed(picture, (box - shift) * picture.width / crop.width)


def _around(box, size):
    """Returns the part of a photograph that shows a box and what is around it, as integers."""
    sides = np.maximum((box[2:] - box[:2]) * (1 + 2 * MARGIN), LEAST_SIDE)
    centre = (box[:2] + box[2:]) / 2
    low = np.clip(np.floor(centre - sides / 2), 0, np.array(size) - 1)
    high = np.clip(np.ceil(centre + sides / 2), low + 1, size)
    return tuple(np.concatenate([low, high]).astype(int).tolist())


def _framed(picture, box):
    width = picture.width
    picture.thumbnail((SIDE, SIDE), Image.Resampling.BILINEAR)
    box = box * picture.width / width
    low = box[:2] - 2
    frame = (*low, *np.maximum(low, box[2:] + 2))
    ImageDraw.Draw(picture).rectangle(frame, outline=MARKED, width=2)
    return np.asarray(picture)


def matched(found, truth):
    """Returns int (n,): for each detection the object it stands for, -1 for none, -2 on a crowd.

    The detections choose in the order of their scores, each the object of its class that it
    overlaps most, by an IoU of 0.5 or more, among those that are left.

    Args:
        found: the `Detections`.
        truth: the `Objects`.
    """
    overlaps = _overlaps(found.boxes, truth.boxes, truth.crowds)
    overlaps *= found.labels[:, None] == truth.labels[None]
    pairs, is_left = np.full(len(found.scores), FREE), ~truth.crowds
    for place in np.argsort(-found.scores, kind="stable"):
        own = np.where(is_left, overlaps[place], 0)
        if own.max(initial=0) >= LEAST_IOU:
            pairs[place] = own.argmax()
            is_left[own.argmax()] = False
        elif overlaps[place][truth.crowds].max(initial=0) >= LEAST_IOU:
            pairs[place] = ON_A_CROWD
    return pairs


def _overlaps(boxes, objects, crowds):
    """Returns (n, m) IoU in [0, 1]; with a crowd the part of the box that lies in it."""
    low = np.maximum(boxes[:, None, :2], objects[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], objects[None, :, 2:])
    common = np.prod(np.maximum(high - low, 0), axis=-1)
    own = _areas(boxes)[:, None]
    union = np.where(crowds, own, own + _areas(objects) - common)
    return common / np.maximum(union, 1e-9)


def _areas(boxes):
    return np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 0), axis=-1)


def _mask_iou(mask, other):
    return float((mask & other).sum() / max(1, (mask | other).sum()))
