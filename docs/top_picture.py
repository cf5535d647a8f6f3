"""Draws the picture at the top of README: one picture, and what three models say of it.

    KERAS_BACKEND=torch OMP_NUM_THREADS=1 python -m docs.top_picture

writes `docs/_static/top.png`. No photo comes with this repository, and no weights. So the models
are small ones, trained here from random weights by `fit()` on drawn scenes
(`docs/drawn_scenes.py`), and answer for a scene that is none of those. The trainings took 11, 85
and 154 seconds of a core of an AMD EPYC.
"""

import dataclasses
import os
import time
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras
import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from docs import drawn_scenes as drawn
from keras_convnext import AdamW, Classifier, ConvNeXt, Variant, WarmupCosine
from keras_convnext.detection import MASK_RCNN, Detector, MaskRCNN
from keras_convnext.detection.augmentation import CropAndResize, Objects
from keras_convnext.layers.initializers import scale_to_inputs
from keras_convnext.preprocessing import EvalTransform
from keras_convnext.segmentation import PixelCrossEntropy, Segmenter, UperNet, overlays

PICTURE = Path(__file__).parent / "_static" / "top.png"
SHOWN = 10_063  # the seed of the scene, where things stand apart
SCENES = 320
SIZE = (128, 160)  # height and width that the models see
VARIANT = Variant("small", depths=(1, 1, 2, 1), dims=(24, 48, 96, 128), layer_scale=None)


def trained(model, batches, epochs, rate=1.5e-3, **compiled):
    """Returns a model after a training from random weights."""
    scale_to_inputs(model, 0.7)  # kernels of tens of channels, which begin small else
    total = epochs * len(batches)
    schedule = WarmupCosine(rate, total, warmup_steps=total // 10)
    model.compile(AdamW(schedule, weight_decay=0.05), **compiled)
    begun = time.process_time()
    losses = model.fit(batches, epochs=epochs, verbose=0).history["loss"]
    seconds = time.process_time() - begun
    print(f"{model.name}: loss {losses[0]:.2f} to {losses[-1]:.2f}, {seconds:.0f} s", flush=True)
    return model


def small(image, resample=Image.Resampling.BILINEAR):
    return np.asarray(image.resize(SIZE[::-1], resample))


class Scenes(keras.utils.PyDataset):
    """Batches of scenes, in another order in each epoch; `rows(scenes, draws)` makes one."""

    def __init__(self, scenes, rows, batch=8):
        super().__init__()
        self.scenes, self.rows, self.batch, self.epoch = scenes, rows, batch, 0

    def __len__(self):
        return len(self.scenes) // self.batch

    def __getitem__(self, number):
        order = np.random.default_rng(self.epoch).permutation(len(self.scenes))
        chosen = order[number * self.batch :][: self.batch]
        return self.rows([self.scenes[n] for n in chosen], [(self.epoch, n) for n in chosen])

    def on_epoch_end(self):
        self.epoch += 1


# ---------------------------------------------------------------- three models


def classifier(scenes):
    keras.utils.set_random_seed(0)
    transform = EvalTransform(128, resize="squash")

    def rows(scenes, draws):
        images = np.stack([transform(scene.picture) for scene in scenes])
        return images, np.eye(len(drawn.KINDS))[[scene.kind for scene in scenes]]

    shape = {"classes": len(drawn.KINDS), "input_shape": (128, 128, 3)}
    model = ConvNeXt(VARIANT, name="classifier", **shape)
    loss = keras.losses.CategoricalCrossentropy(label_smoothing=0.1)
    model = trained(model, Scenes(scenes, rows), epochs=4, loss=loss)
    return Classifier(model, transform=transform, labels=drawn.KINDS)


def segmenter(scenes):
    keras.utils.set_random_seed(0)

    def rows(scenes, draws):
        images = np.stack([small(scene.picture) for scene in scenes])
        nearest = Image.Resampling.NEAREST
        labels = [small(Image.fromarray(scene.labels), resample=nearest) for scene in scenes]
        return images, np.stack(labels)

    narrow = dataclasses.replace(VARIANT, name="narrow", dims=(16, 32, 64, 96))
    model = UperNet(
        narrow, classes=len(drawn.PIXELS), channels=24, auxiliary_channels=8, name="segmenter"
    )
    model = trained(
        model, Scenes(scenes, rows, batch=4), epochs=8, rate=3e-3, loss=PixelCrossEntropy()
    )
    return Segmenter(model, mode="whole", size=SIZE)


def detector(scenes):
    keras.utils.set_random_seed(0)
    recipe = CropAndResize(SIZE, objects=8, short_sides=(96, 112, 128), long_side=160, crop=0.0)

    def rows(scenes, draws):
        found = [
            recipe(scene.picture, Objects(scene.boxes, scene.kinds), draw)
            for scene, draw in zip(scenes, draws, strict=True)
        ]
        batch = {name: np.stack([row[name] for row in found]) for name in found[0]}
        return {"images": batch.pop("image"), **batch}

    settings = dataclasses.replace(
        MASK_RCNN,
        channels=48,
        box_units=96,
        box_samples=32,
        train_candidates=100,
        train_proposals=50,
        test_candidates=100,
        test_proposals=50,
        detections=20,
    )
    model = MaskRCNN(
        VARIANT, classes=len(drawn.OBJECTS), settings=settings, masks=False, name="detector"
    )
    model = trained(model, Scenes(scenes, rows), epochs=14)
    return Detector(model, size=SIZE, threshold=0.5, labels=drawn.OBJECTS)


# ---------------------------------------------------------------- the picture


PANEL, GAP, TITLE = (480, 384), 24, 56  # pixels: width and height, between panels, above one
BOXES = ((196, 60, 40), (24, 110, 60), (28, 84, 190))  # colours of houses, trees and people
INK, GREY, PAPER = (32, 36, 44), (226, 230, 236), (255, 255, 255)


def font(size):
    return ImageFont.load_default(size)


def written(pen, place, text, size, anchor="mm", fill=PAPER, edge=INK):
    pen.text(place, text, fill, font(size), anchor, stroke_width=3, stroke_fill=edge)


def classes_panel(answers):
    """Bars of probabilities, the likeliest class first."""
    panel = Image.new("RGB", PANEL, PAPER)
    pen = ImageDraw.Draw(panel)
    row = PANEL[1] // len(drawn.KINDS)
    for number, answer in enumerate(answers):
        top, full = number * row + 12, PANEL[0] - 4
        colour = (36, 108, 200) if number == 0 else (150, 176, 210)
        pen.text((2, top), answer.name, INK, font(32))
        pen.text((full, top), f"{answer.probability:.0%}", INK, font(32), "ra")
        bar = (2, top + 44, full, top + 68)
        pen.rounded_rectangle(bar, 12, GREY)
        pen.rounded_rectangle(
            (2, bar[1], 26 + answer.probability * (full - 26), bar[3]), 12, colour
        )
    return panel


def pixels_panel(picture, labels):
    """Each class in its colour, with its name where it is widest."""
    colours = overlays.overlay(picture, labels, classes=len(drawn.PIXELS), opacity=0.75)
    panel = Image.fromarray(np.rint(colours).astype("uint8"))
    pen = ImageDraw.Draw(panel)
    for number, name in enumerate(drawn.PIXELS):
        if (labels == number).mean() > 0.02:
            written(pen, middle_of(labels == number, pen.textlength(name, font(28))), name, 28)
    return panel


def middle_of(mask, width):
    """Returns the place for a text of that width where most of a mask is around it."""
    around = ImageFilter.BoxBlur((width / 2, 20))
    room = np.asarray(Image.fromarray(mask.astype("uint8") * 255).filter(around), "float32")
    half = int(width / 2) + 8
    row, column = np.unravel_index(
        room[24:-24, half:-half].argmax(), room[24:-24, half:-half].shape
    )
    return int(column) + half, int(row) + 24


def boxes_panel(picture, found):
    panel = picture.copy()
    pen = ImageDraw.Draw(panel)
    for box, name, kind in zip(found.boxes, found.names, found.labels, strict=True):
        colour = BOXES[kind]
        x1, y1, x2, y2 = box.clip(1, np.tile(PANEL, 2) - 2).tolist()
        pen.rounded_rectangle((x1, y1, x2, y2), 6, outline=colour, width=5)
        wide = pen.textlength(name, font(28)) + 16
        left, top = min(x1, PANEL[0] - wide), max(0, y1 - 34)
        pen.rounded_rectangle((left, top, left + wide, top + 36), 6, colour)
        pen.text((left + wide / 2, top + 17), name, PAPER, font(28), "mm")
    return panel


def composed(panels):
    """Panels in two columns, each under its title."""
    width, height = (2 * side + 3 * GAP for side in PANEL)
    picture = Image.new("RGB", (width, height + 2 * TITLE), PAPER)
    corners = Image.new("L", PANEL)
    ImageDraw.Draw(corners).rounded_rectangle((0, 0, PANEL[0] - 1, PANEL[1] - 1), 14, 255)
    for number, (title, panel) in enumerate(panels.items()):
        left = GAP + number % 2 * (PANEL[0] + GAP)
        top = GAP + number // 2 * (PANEL[1] + TITLE + GAP)
        ImageDraw.Draw(picture).text((left, top), title, INK, font(36))
        picture.paste(panel, (left, top + TITLE), corners)
    return picture


def main():
    scenes = [drawn.draw(seed) for seed in range(SCENES)]
    shown = drawn.draw(SHOWN).large.resize(PANEL, Image.Resampling.BOX)
    panels = {
        "A picture": shown,
        "its classes": classes_panel(classifier(scenes)(shown)),
        "a mask": pixels_panel(shown, segmenter(scenes)(shown)),
        "boxes": boxes_panel(shown, detector(scenes)(shown)),
    }
    composed(panels).quantize(256, dither=Image.Dither.NONE).save(PICTURE, optimize=True)


if __name__ == "__main__":
    main()
