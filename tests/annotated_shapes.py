"""A small set of photographs with objects in COCO's format, made here: answers that are known."""

import json

import numpy as np
from PIL import Image

from keras_convnext.detection import rle
from keras_convnext.detection.detections import Detections

CATEGORIES = {3: "disc", 7: "square", 40: "bar", 99: "nothing of this kind"}
COLOURS = {3: (220, 40, 40), 7: (40, 200, 40), 40: (40, 60, 220)}
SIZES = ((120, 160), (200, 150), (64, 64), (130, 210), (90, 90))  # height, width
EMPTY, CROWDED = 2, 3  # places of the image without objects and of that with a crowd


def objects_of(place):
    """Returns (category, centre x, centre y, half sides) of the objects of an image."""
    height, width = SIZES[place]
    if place == EMPTY:
        return ()
    random = np.random.default_rng(place)
    found = []
    for category, (half_width, half_height) in zip(
        (3, 7, 40, 3), ((9, 9), (24, 24), (30, 5), (4, 4)), strict=True
    ):
        x = int(random.integers(half_width, width - half_width))
        y = int(random.integers(half_height, height - half_height))
        found.append((category, x, y, half_width, half_height))
    return tuple(found)


def mask_of(size, category, x, y, half_width, half_height):
    rows, columns = np.mgrid[: size[0], : size[1]]
    across, down = (columns - x + 0.5) / half_width, (rows - y + 0.5) / half_height
    if category == 3:
        return across**2 + down**2 <= 1
    return (abs(across) <= 1) & (abs(down) <= 1)


def tiny_set():
    """Returns (content of an annotation file, `{file name: uint8 pixels}`).

    The ids of images, categories and objects have gaps, and those of the objects begin with 0.
    """
    images, annotations, pixels = [], [], {}
    for place, size in enumerate(SIZES):
        key = 100 + 7 * place
        name = f"{place}.png"
        images.append({"id": key, "file_name": name, "height": size[0], "width": size[1]})
        pixels[name] = np.full((*size, 3), 128, "uint8")
        for number, row in enumerate(objects_of(place)):
            mask = mask_of(size, *row)
            pixels[name][mask] = COLOURS[row[0]]
            annotations.append(
                {
                    "id": 2 * len(annotations),
                    "image_id": key,
                    "category_id": row[0],
                    "iscrowd": int(place == CROWDED and number == 1),
                    "area": int(mask.sum()),
                    "bbox": rle.bbox(rle.encode(mask)),
                    "segmentation": rle.encode(mask),
                }
            )
    categories = [{"id": key, "name": name} for key, name in CATEGORIES.items()]
    return {"images": images, "annotations": annotations, "categories": categories}, pixels


def written(folder):
    """Writes the set; returns the path of the annotation file and the folder of the images."""
    content, pixels = tiny_set()
    (folder / "images").mkdir()
    for name, image in pixels.items():
        Image.fromarray(image).save(folder / "images" / name)
    (folder / "objects.json").write_text(json.dumps(content))
    return folder / "objects.json", folder / "images"


def ground_truth(content, key, names):
    """Returns the annotated objects of an image, but for crowds, as `Detections` of score 1.

    Their boxes are whole pixels, and each crop has the size of its box, so that pasting it gives
    the mask again.
    """
    size = next((row["height"], row["width"]) for row in content["images"] if row["id"] == key)
    rows = [row for row in content["annotations"] if row["image_id"] == key and not row["iscrowd"]]
    name_of = {row["id"]: row["name"] for row in content["categories"]}
    boxes = np.array([row["bbox"] for row in rows], "float32").reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    crops = np.empty(len(rows), object)
    for place, (row, box) in enumerate(zip(rows, boxes.astype(int), strict=True)):
        crops[place] = rle.decode(row["segmentation"])[box[1] : box[3], box[0] : box[2]]
    found = tuple(name_of[row["category_id"]] for row in rows)
    labels = np.array([names.index(name) for name in found], "int32")
    categories = np.array([row["category_id"] for row in rows], "int64")
    scores = np.ones(len(rows), "float32")
    return Detections(boxes, scores, labels, found, size, categories, crops)
