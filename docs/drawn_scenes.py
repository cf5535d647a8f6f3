"""Drawn pictures of four places, with the class of each pixel and the box of each object."""

import dataclasses

import numpy as np
from PIL import Image, ImageDraw

KINDS = ("beach", "desert", "meadow", "snow")
PIXELS = ("sky", "hills", "water", "ground", "house", "tree", "person")
OBJECTS = ("house", "tree", "person")
WIDTH, HEIGHT = 320, 256
TIMES = 3  # a picture is drawn larger, and reduced, so that its edges are smooth
COLOURS = {  # of a place: the sky above and at the horizon, the hills, the ground far and near
    "beach": ((86, 166, 232), (212, 238, 250), (112, 156, 150), (246, 226, 178), (232, 200, 140)),
    "desert": ((240, 168, 92), (255, 228, 178), (176, 98, 70), (230, 172, 108), (206, 134, 78)),
    "meadow": ((98, 178, 240), (222, 240, 252), (96, 148, 116), (150, 196, 96), (92, 156, 68)),
    "snow": ((150, 176, 212), (232, 238, 248), (152, 170, 196), (246, 249, 254), (218, 228, 242)),
}
TREES = {"beach": "palm", "desert": "palm", "meadow": "round", "snow": "fir"}
SKINS = ((255, 219, 190), (232, 184, 140), (198, 134, 90), (141, 85, 50), (90, 55, 35))
HAIRS = ((40, 28, 24), (96, 62, 36), (190, 140, 70), (150, 74, 40))
CLOTHES = (
    (214, 62, 62),
    (44, 92, 168),
    (240, 180, 46),
    (60, 60, 72),
    (130, 82, 160),
    (238, 240, 242),
)
WALLS = ((246, 236, 214), (226, 196, 160), (206, 222, 230), (240, 206, 196))
ROOFS = ((176, 72, 58), (120, 74, 60), (84, 96, 116))
BARK, WINDOW = (118, 84, 56), (120, 168, 200)


@dataclasses.dataclass(frozen=True)
class Scene:
    """A picture and what is in it.

    Attributes:
        picture: `PIL.Image.Image`, RGB, 320 x 256 pixels.
        large: the same in three times as many pixels, each way.
        kind: the place, a number of `KINDS`.
        labels: uint8 (256, 320), numbers of `PIXELS`.
        boxes: float32 (n, 4), x1, y1, x2, y2 in pixels, of what is seen of each object.
        kinds: int32 (n,), numbers of `OBJECTS`.
    """

    picture: Image.Image
    large: Image.Image
    kind: int
    labels: np.ndarray
    boxes: np.ndarray
    kinds: np.ndarray


class Sheet:
    """What is drawn on, in pixels of the scene: colours, classes of pixels, numbers of objects."""

    def __init__(self):
        size = (WIDTH * TIMES, HEIGHT * TIMES)
        self.layers = [Image.new("RGB", size), Image.new("L", size), Image.new("L", size)]
        self.pens = [ImageDraw.Draw(layer) for layer in self.layers]
        self.fills, self.objects = [0, 0], []

    def now(self, name, is_object=False):
        """What is drawn from here on is of that class; an object hides what is behind it."""
        self.objects += [OBJECTS.index(name)] if is_object else []
        self.fills = [PIXELS.index(name), len(self.objects) if is_object else 0]

    def polygon(self, points, colour):
        points = [tuple(TIMES * np.asarray(point)) for point in points]
        for pen, fill in zip(self.pens, [colour, *self.fills], strict=True):
            pen.polygon(points, fill)

    def stroke(self, points, width, colour):
        """A line with round ends; of one point a disc."""
        points = [tuple(TIMES * np.asarray(point)) for point in points]
        radius = TIMES * width / 2
        for pen, fill in zip(self.pens, [colour, *self.fills], strict=True):
            pen.line(points, fill, max(1, round(2 * radius)))
            for x, y in points:
                pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill)

    def scene(self, kind):
        picture = self.layers[0].resize((WIDTH, HEIGHT), Image.Resampling.BOX)
        middle = np.s_[TIMES // 2 :: TIMES, TIMES // 2 :: TIMES]
        labels, owners = (np.asarray(layer)[middle] for layer in self.layers[1:])
        seen = [(owners == n + 1) for n in range(len(self.objects))]
        kept = [n for n, mask in enumerate(seen) if mask.sum() > 150]
        boxes = np.float32([_box(seen[n]) for n in kept]).reshape(-1, 4)
        return Scene(
            picture, self.layers[0], kind, labels, boxes, np.int32([self.objects[n] for n in kept])
        )


def _box(mask):
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return columns[0], rows[0], columns[-1] + 1, rows[-1] + 1


def draw(seed):
    """Returns the `Scene` of a seed; the place is `seed % 4`."""
    random, sheet = np.random.default_rng(seed), Sheet()
    place = KINDS[seed % len(KINDS)]
    horizon = random.uniform(0.4, 0.52) * HEIGHT
    _background(sheet, random, place, horizon)
    _objects(sheet, random, place, horizon)
    return sheet.scene(seed % len(KINDS))


def _background(sheet, random, place, horizon):
    above, below, hills, far, near = COLOURS[place]
    shade = random.uniform(0.88, 1.06)
    sheet.now("sky")
    _gradient(sheet, 0, horizon, above, below, shade)
    sun = random.uniform((20, 24), (WIDTH - 20, 60))
    sheet.stroke([sun], random.uniform(20, 34), (255, 246, 214))
    sheet.now("hills")
    for share in (1.0, 0.6):
        _hills(sheet, random, horizon, share, _mixed(hills, below, 0.5 * share, shade))
    ground = horizon
    if place == "beach":
        sheet.now("water")
        ground += random.uniform(0.1, 0.18) * HEIGHT
        _gradient(sheet, horizon, ground, (44, 128, 178), (120, 202, 212), shade)
    sheet.now("ground")
    _gradient(sheet, ground, HEIGHT, far, near, shade)


def _mixed(colour, other, share, shade=1.0):
    mixed = shade * (np.multiply(colour, 1 - share) + np.multiply(other, share))
    return tuple(mixed.clip(0, 255).astype(int).tolist())


def _gradient(sheet, top, bottom, first, last, shade):
    edges = np.linspace(top, bottom, 25)
    for step, (high, low) in enumerate(zip(edges[:-1], edges[1:], strict=True)):
        corners = [(0, high), (WIDTH, high), (WIDTH, low + 1), (0, low + 1)]
        sheet.polygon(corners, _mixed(first, last, step / 24, shade))


def _hills(sheet, random, horizon, share, colour):
    x = np.linspace(0, WIDTH, 65)
    waves = zip(random.uniform(60, 240, 3), random.uniform(0, 6, 3), (0.5, 0.3, 0.2), strict=True)
    height = sum(size * np.sin(x / length * 6 + shift) for length, shift, size in waves)
    top = horizon - share * (0.13 + 0.08 * height) * HEIGHT
    sheet.polygon([(0, horizon + 1), *zip(x, top, strict=True), (WIDTH, horizon + 1)], colour)


def _objects(sheet, random, place, horizon):
    """Things at places of their own from left to right, the farthest first, then people."""
    low = horizon + (0.2 if place == "beach" else 0.06) * HEIGHT
    things = [name for name in ("house", "tree", "tree") if random.random() < 0.65]
    for name, (x, depth) in zip(things, _places(random, len(things), 0.35), strict=True):
        sheet.now(name, is_object=True)
        ground, tall = low + depth * 0.45 * (0.9 * HEIGHT - low), (0.36 + 0.22 * depth) * HEIGHT
        if name == "house":
            _house(sheet, random, x, ground, tall)
        else:
            _tree(sheet, random, TREES[place], x, ground, 1.2 * tall)
    for x, depth in _places(random, random.integers(1, 4), 0.3):
        sheet.now("person", is_object=True)
        _person(sheet, random, x, (0.82 + 0.14 * depth) * HEIGHT, (0.3 + 0.14 * depth) * HEIGHT)


def _places(random, count, margin):
    """Returns pairs of x and how near it is, in [0, 1], in different quarters of the width."""
    columns, depths = random.permutation(4)[:count], np.sort(random.random(count))
    return [
        ((column + random.uniform(margin, 1 - margin)) * WIDTH / 4, depth)
        for column, depth in zip(columns, depths, strict=True)
    ]


def _house(sheet, random, x, ground, tall):
    wall, roof = WALLS[random.integers(len(WALLS))], ROOFS[random.integers(len(ROOFS))]
    wide, eaves = tall * random.uniform(0.42, 0.58), ground - 0.55 * tall
    chimney = x + 0.45 * wide
    _block(sheet, chimney, ground - 0.6 * tall, 0.07 * tall, 0.36 * tall, _mixed(roof, BARK, 0.4))
    _block(sheet, x, ground, wide, 0.55 * tall, wall)
    sheet.polygon([(x - 1.15 * wide, eaves), (x + 1.15 * wide, eaves), (x, ground - tall)], roof)
    _block(sheet, x, ground, 0.17 * wide, 0.32 * tall, _mixed(BARK, roof, 0.3))
    for side in (-0.58, 0.58):
        _block(sheet, x + side * wide, ground - 0.17 * tall, 0.2 * wide, 0.2 * tall, WINDOW)


def _block(sheet, x, ground, half, tall, colour):
    low, high = [(x - half, ground), (x + half, ground)], ground - tall
    sheet.polygon([*low, (x + half, high), (x - half, high)], colour)


def _tree(sheet, random, shape, x, ground, tall):
    green = _mixed((52, 120, 62), (120, 160, 62), random.random(), random.uniform(0.85, 1.1))
    if shape == "palm":
        _palm(sheet, random, x, ground, tall, green)
        return
    sheet.stroke([(x, ground), (x, ground - 0.5 * tall)], 0.08 * tall, BARK)
    if shape == "fir":
        for top, bottom, wide in ((0.45, 0.12, 0.3), (0.72, 0.36, 0.24), (1.0, 0.6, 0.17)):
            sides = [(x + side * wide * tall, ground - bottom * tall) for side in (-1, 1)]
            colour = _mixed(green, (30, 84, 84), 0.6 - top / 2)
            sheet.polygon([*sides, (x, ground - top * tall)], colour)
        return
    for across, up, wide in ((-0.16, 0.56, 0.36), (0.16, 0.58, 0.38), (0, 0.76, 0.46)):
        place, colour = (
            (x + across * tall, ground - up * tall),
            _mixed(green, (200, 220, 90), up / 4),
        )
        sheet.stroke([place], wide * tall, colour)


def _palm(sheet, random, x, ground, tall, green):
    lean = random.uniform(-0.18, 0.18) * tall
    trunk = [(x + lean * t**2, ground - 0.8 * tall * t) for t in np.linspace(0, 1, 9)]
    sheet.stroke(trunk, 0.055 * tall, BARK)
    top = np.array(trunk[-1])
    for angle in np.deg2rad([-80, -45, -12, 20, 52, 88]):
        t = np.linspace(0, 0.36 * tall, 7)
        fall = 0.7 * t**2 / t[-1] - 0.55 * t * np.cos(angle)
        sheet.stroke(top + np.stack([t * np.sin(angle), fall], 1), 0.06 * tall, green)


def _towards(start, angle, length):
    turn = np.deg2rad(angle)  # 0 points downwards
    return np.add(start, [length * np.sin(turn), length * np.cos(turn)])


def _person(sheet, random, x, ground, tall):
    skin, hair = SKINS[random.integers(len(SKINS))], HAIRS[random.integers(len(HAIRS))]
    shirt, trousers = (CLOTHES[n] for n in random.permutation(len(CLOTHES))[:2])
    hips, neck = np.array([x, ground - 0.46 * tall]), np.array([x, ground - 0.8 * tall])
    for side in (-1, 1):
        hip = hips + [side * 0.045 * tall, 0]
        knee = _towards(hip, side * random.uniform(0, 22), 0.23 * tall)
        foot = _towards(knee, side * random.uniform(-8, 8), 0.2 * tall)
        sheet.stroke([hip, knee, foot], 0.1 * tall, trousers)
        shoulder = neck + [side * 0.1 * tall, 0.05 * tall]
        elbow = _towards(shoulder, side * random.uniform(8, 60), 0.16 * tall)
        hand = _towards(elbow, side * random.uniform(-10, 120), 0.15 * tall)
        sheet.stroke([shoulder, elbow], 0.08 * tall, shirt)
        sheet.stroke([elbow, hand], 0.065 * tall, skin)
    corners = ((neck, -0.12, 0.03), (neck, 0.12, 0.03), (hips, 0.1, 0.04), (hips, -0.1, 0.04))
    sheet.polygon([at + np.multiply((x, y), tall) for at, x, y in corners], shirt)
    head = neck - [0, 0.1 * tall]
    sheet.stroke([neck, head], 0.07 * tall, skin)
    sheet.stroke([head - [0, 0.02 * tall]], 0.17 * tall, hair)
    sheet.stroke([head + [0, 0.02 * tall]], 0.14 * tall, skin)
