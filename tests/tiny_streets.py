"""Pictures with masks as a folder has them: rectangles on grey, whose colour is the class."""

import numpy as np
from PIL import Image

COLOURS = np.array([[90, 90, 90], [220, 40, 40], [40, 60, 220]], "uint8")
NAMES = "ground,red,blue"


def draw(seed, height=48, width=64):
    """Returns a uint8 image `(height, width, 3)` and uint8 labels `(height, width)`."""
    random = np.random.default_rng(seed)
    labels = np.zeros((height, width), "uint8")
    for label in (1, 2):
        top, left = random.integers(0, height - 16), random.integers(0, width - 16)
        labels[top : top + 16, left : left + 16] = label
    noise = random.integers(-20, 20, (height, width, 3))
    return np.clip(COLOURS[labels] + noise, 0, 255).astype("uint8"), labels


def write(root, count=6, images="images", masks="masks", first=0, **sides):
    """Writes that many pairs as `root/images/deeper/0.png`, `root/masks/deeper/0.png`; the seed of
    the first picture is `first`."""
    for number in range(count):
        for folder, array in zip((images, masks), draw(first + number, **sides), strict=True):
            path = root / folder / "deeper" / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(path)
    return root
