"""A tiny set in COCO's format: rectangles and ellipses on grey, drawn and annotated by the test."""

import json

import numpy as np
from PIL import Image

CATEGORIES = ((3, "rectangle"), (7, "ellipse"))  # ids with gaps
COLOURS = ((220, 40, 40), (40, 60, 220))


def draw(seed, width=96, height=64, count=2):
    """Returns a uint8 image and a list of (category id, box x y w h, bool mask)."""
    random = np.random.default_rng(seed)
    image = np.clip(random.normal(110, 12, (height, width, 3)), 0, 255).astype("uint8")
    rows, columns = np.mgrid[:height, :width]
    objects = []
    for number in range(count):
        across, down = random.integers(16, 28, 2)
        left, top = random.integers(0, width - across), random.integers(0, height - down)
        inside = (columns >= left) & (columns < left + across)
        inside &= (rows >= top) & (rows < top + down)
        kind = (seed + number) % 2
        if kind:
            x, y = (columns - left + 0.5) / across - 0.5, (rows - top + 0.5) / down - 0.5
            inside &= x**2 + y**2 < 0.25
        image[inside] = COLOURS[kind]
        box = [int(left), int(top), int(across), int(down)]
        objects.append((CATEGORIES[kind][0], box, inside))
    return image, objects


def runs(mask):
    """Returns a mask as COCO's uncompressed run lengths."""
    flat = mask.T.ravel()
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flat, [not flat[-1]]])))
    counts = np.diff(np.concatenate([[0], edges]))
    return {"size": list(mask.shape), "counts": [int(count) for count in counts]}


def content(count=6, first=0, portraits=False):
    """Returns `(content of an annotation file, {file name: image})`.

    Rectangles are polygons, ellipses run lengths. With `portraits` every second image is one.
    """
    images, annotations, pictures = [], [], {}
    for number in range(first, first + count):
        sides = (64, 96) if portraits and number % 2 else (96, 64)
        picture, objects = draw(number, *sides)
        name = f"{number:03d}.png"
        pictures[name] = picture
        images.append({"id": 10 + number, "file_name": name, "width": sides[0], "height": sides[1]})
        for category, (x, y, w, h), mask in objects:
            polygon = [[x, y, x + w, y, x + w, y + h, x, y + h]]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": 10 + number,
                    "category_id": category,
                    "bbox": [x, y, w, h],
                    "area": int(mask.sum()),
                    "iscrowd": 0,
                    "segmentation": polygon if category == 3 else runs(mask),
                }
            )
    categories = [{"id": key, "name": name} for key, name in reversed(CATEGORIES)]
    return {"images": images, "annotations": annotations, "categories": categories}, pictures


def write(file, folder, count=6, first=0, portraits=False, changed=None):
    """Writes an annotation file and its images; `changed` may alter the content before."""
    entries, pictures = content(count, first, portraits)
    if changed is not None:
        changed(entries)
    folder.mkdir(parents=True, exist_ok=True)
    file.parent.mkdir(parents=True, exist_ok=True)
    for name, picture in pictures.items():
        Image.fromarray(picture).save(folder / name)
    file.write_text(json.dumps(entries))


def write_coco(root, train=6, validation=3, portraits=False, changed=None):
    """Writes a directory laid out as COCO is; `changed` alters the training annotations."""
    annotations = root / "annotations"
    train = {"count": train, "portraits": portraits, "changed": changed}
    write(annotations / "instances_train2017.json", root / "train2017", **train)
    file = annotations / "instances_val2017.json"
    write(file, root / "val2017", validation, first=100, portraits=portraits)
    return root
