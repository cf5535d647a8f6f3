"""The peer of `input_pipeline`: what timm 1.0 makes of a batch, with Pillow in worker processes.

timm itself cannot stand here, because it does not import beside PyTorch's build for CPUs; its steps
are written anew.
"""

import io
import math
import random

import numpy as np
import torch
from PIL import Image, ImageEnhance, ImageOps

MEAN, STD, FILL = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), (124, 116, 104)
SIZE, CLASSES = 224, 1000


class Photographs(torch.utils.data.Dataset):
    """Files -> (image, label): uint8 (3, 224, 224); or, `finished`, normalised and erased float32.

    Args:
        paths: of JPEG files.
        finished: whether normalisation and erasing are done here, on the CPU.
    """

    def __init__(self, paths, finished):
        self.paths, self.finished = paths, finished

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, index):
        with open(self.paths[index], "rb") as file:
            image = Image.open(io.BytesIO(file.read())).convert("RGB")
        top, left, height, width = crop_box(image.width, image.height)
        image = image.crop((left, top, left + width, top + height))
        image = image.resize((SIZE, SIZE), Image.Resampling.BICUBIC)
        if random.random() < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        image = rand_augment(image)
        pixels = np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1))
        return (normalised_and_erased(pixels) if self.finished else pixels), index % CLASSES


def crop_box(width, height):
    """torchvision's random resized crop -> top, left, height, width"""
    for _ in range(10):
        area = width * height * random.uniform(0.08, 1)
        ratio = math.exp(random.uniform(math.log(3 / 4), math.log(4 / 3)))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            return random.randint(0, height - h), random.randint(0, width - w), h, w
    side = min(width, height)
    return (height - side) // 2, (width - side) // 2, side, side


def rand_augment(image):
    """rand-m9-mstd0.5-inc1"""
    for name in random.choices(list(OPERATIONS), k=2):
        if random.random() < 0.5:
            strength = min(max(random.gauss(9, 0.5), 0), 10) / 10
            image = OPERATIONS[name](image, strength, random.choice((-1, 1)))
    return image


def affine(image, *matrix):
    method, kernel = Image.Transform.AFFINE, Image.Resampling.BICUBIC
    return image.transform(image.size, method, matrix, kernel, fillcolor=FILL)


# Each takes the image, the strength in [0, 1] and a sign.
# fmt: off
OPERATIONS = {
    "AutoContrast": lambda x, s, sign: ImageOps.autocontrast(x),
    "Equalize": lambda x, s, sign: ImageOps.equalize(x),
    "Invert": lambda x, s, sign: ImageOps.invert(x),
    "Rotate": lambda x, s, sign: x.rotate(sign * 30 * s, Image.Resampling.BICUBIC, fillcolor=FILL),
    "Posterize": lambda x, s, sign: ImageOps.posterize(x, max(1, 4 - int(4 * s))),
    "Solarize": lambda x, s, sign: ImageOps.solarize(x, 256 - int(256 * s)),
    "SolarizeAdd": lambda x, s, sign: x.point(
        [v + int(110 * s) if v < 128 else v for v in range(256)] * 3
    ),
    "Color": lambda x, s, sign: ImageEnhance.Color(x).enhance(1 + 0.9 * sign * s),
    "Contrast": lambda x, s, sign: ImageEnhance.Contrast(x).enhance(1 + 0.9 * sign * s),
    "Brightness": lambda x, s, sign: ImageEnhance.Brightness(x).enhance(1 + 0.9 * sign * s),
    "Sharpness": lambda x, s, sign: ImageEnhance.Sharpness(x).enhance(1 + 0.9 * sign * s),
    "ShearX": lambda x, s, sign: affine(x, 1, 0.3 * sign * s, 0, 0, 1, 0),
    "ShearY": lambda x, s, sign: affine(x, 1, 0, 0, 0.3 * sign * s, 1, 0),
    "TranslateX": lambda x, s, sign: affine(x, 1, 0, 0.45 * sign * s * SIZE, 0, 1, 0),
    "TranslateY": lambda x, s, sign: affine(x, 1, 0, 0, 0, 1, 0.45 * sign * s * SIZE),
}
# fmt: on


def normalised_and_erased(pixels):
    """uint8 (3, h, w) -> float32 tensor; with probability 0.25 a box of it is normal noise"""
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    image = torch.from_numpy(pixels).float().div_(255).sub_(mean).div_(std)
    if random.random() < 0.25:
        for _ in range(10):
            area = SIZE * SIZE * random.uniform(0.02, 1 / 3)
            aspect = math.exp(random.uniform(math.log(0.3), math.log(1 / 0.3)))
            h, w = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
            if h < SIZE and w < SIZE:
                top, left = random.randint(0, SIZE - h), random.randint(0, SIZE - w)
                image[:, top : top + h, left : left + w] = torch.randn(3, h, w)
                break
    return image


def stacked(examples):
    """Examples of uint8 -> a batch of uint8, copied once."""
    images = torch.empty((len(examples), 3, SIZE, SIZE), dtype=torch.uint8)
    for place, (image, _) in enumerate(examples):
        images[place] = torch.from_numpy(image)
    return images, torch.tensor([label for _, label in examples])


def mixed(images, labels):
    """Mixup or CutMix of a batch with its reverse, in place, and the smoothed targets."""
    cut = random.random() < 0.5
    share = np.random.beta(1.0, 1.0) if cut else np.random.beta(0.8, 0.8)
    if cut:
        half = int(SIZE * math.sqrt(1 - share)) // 2
        y, x = random.randrange(SIZE), random.randrange(SIZE)
        top, bottom = max(0, y - half), min(SIZE, y + half)
        left, right = max(0, x - half), min(SIZE, x + half)
        images[:, :, top:bottom, left:right] = images.flip(0)[:, :, top:bottom, left:right]
        share = 1 - (bottom - top) * (right - left) / SIZE**2
    else:
        images.mul_(share).add_(images.flip(0).mul_(1 - share))
    targets = torch.full((len(labels), CLASSES), 0.1 / CLASSES)
    targets.scatter_(1, labels[:, None], 0.9 + 0.1 / CLASSES)
    return images, share * targets + (1 - share) * targets.flip(0)


def batches(paths, batch_size, workers, finished):
    """Yields batches without end: float32, mixed, with targets; or uint8 and labels, for a device
    that does the rest."""
    torch.set_num_threads(workers)
    loader = torch.utils.data.DataLoader(
        Photographs(paths, finished),
        batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        collate_fn=None if finished else stacked,
        persistent_workers=True,
        multiprocessing_context="fork",
    )
    while True:
        for images, labels in loader:
            yield mixed(images, labels) if finished else (images, labels)
