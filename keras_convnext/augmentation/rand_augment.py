"""RandAugment with increasing severities: two of 15 operations for each image.

They are Pillow's. Shears and translations, which move each line as a whole, are computed along the
lines: there the values may differ from Pillow's by one level in a thousandth of the pixels, because
Pillow interpolates in double precision over sixteen neighbours and truncates the result.

Source: arXiv 1909.13719, and Table 5 of arXiv 2201.03545 for the setting of the recipe, written as
`rand-m9-mstd0.5-inc1`.
"""

import dataclasses
import math
import re

from keras_convnext import checks
from keras_convnext.augmentation import operations as op

MAX_LEVEL = 10
DRAWS = 5  # uniforms for each operation that is drawn
# Each takes `(image, strength, sign, fill)`: strength is the level divided by MAX_LEVEL, sign +-1.
# fmt: off
OPERATIONS = {
    "AutoContrast": lambda x, s, sign, fill: op.auto_contrast(x),
    "Equalize": lambda x, s, sign, fill: op.equalize(x),
    "Invert": lambda x, s, sign, fill: op.invert(x),
    "Rotate": lambda x, s, sign, fill: op.rotate(x, sign * 30 * s, fill),
    "Posterize": lambda x, s, sign, fill: op.posterize(x, 4 - int(4 * s)),
    "Solarize": lambda x, s, sign, fill: op.solarize(x, 256 - int(256 * s)),
    "SolarizeAdd": lambda x, s, sign, fill: op.solarize_add(x, int(110 * s)),
    "Color": lambda x, s, sign, fill: op.color(x, 1 + 0.9 * sign * s),
    "Contrast": lambda x, s, sign, fill: op.contrast(x, 1 + 0.9 * sign * s),
    "Brightness": lambda x, s, sign, fill: op.brightness(x, 1 + 0.9 * sign * s),
    "Sharpness": lambda x, s, sign, fill: op.sharpness(x, 1 + 0.9 * sign * s),
    "ShearX": lambda x, s, sign, fill: op.shear_x(x, 0.3 * sign * s, fill),
    "ShearY": lambda x, s, sign, fill: op.shear_y(x, 0.3 * sign * s, fill),
    "TranslateX": lambda x, s, sign, fill: op.translate_x(x, 0.45 * sign * s, fill),
    "TranslateY": lambda x, s, sign, fill: op.translate_y(x, 0.45 * sign * s, fill),
}
# fmt: on


@dataclasses.dataclass(frozen=True)
class RandAugment:
    """A policy: how many operations are drawn, and how strong they are.

    Attributes:
        magnitude: mean of the level, in [0, 10].
        deviation: standard deviation of the level, >= 0; levels are clipped to [0, 10].
        count: operations drawn for each image, with replacement, >= 0.
        probability: probability that a drawn operation is applied.
    """

    magnitude: float = 9.0
    deviation: float = 0.5
    count: int = 2
    probability: float = 0.5

    def __post_init__(self):
        checks.number("m", self.magnitude, least=0, most=MAX_LEVEL)
        checks.number("mstd", self.deviation, least=0)
        checks.integer("n", self.count, 0)
        checks.number("p", self.probability, least=0, most=1)

    @classmethod
    def parse(cls, text):
        """Returns the policy of a text such as "rand-m9-mstd0.5-inc1", `n` and `p` included if they
        are not 2 and 0.5.

        Raises:
            ValueError: if the text has another form, or a number is outside its range.
        """
        parts = text.split("-") if isinstance(text, str) else [None]
        pairs = [re.fullmatch(r"(m|mstd|n|p|inc)(\d+(?:\.\d+)?)", part) for part in parts[1:]]
        given = {match[1]: float(match[2]) for match in pairs if match}
        complete = len(given) == len(parts) - 1 and {"m", "inc"} <= set(given)
        if parts[0] != "rand" or not complete or given.pop("inc") != 1:
            raise ValueError(
                "`rand_augment` must be None or like 'rand-m9-mstd0.5-inc1': 'rand', the magnitude "
                "m in [0, 10], inc1 (increasing severities, the only kind there is), and if wanted "
                f"mstd (default 0.5), n (2) and p (0.5), in any order; received {text!r}."
            )
        names = {"m": "magnitude", "mstd": "deviation", "n": "count", "p": "probability"}
        fields = {names[name]: value for name, value in given.items()}
        if "count" in fields and fields["count"].is_integer():
            fields["count"] = int(fields["count"])
        return cls(**fields)

    @property
    def draws(self):
        """The number of uniforms that an image takes."""
        return DRAWS * self.count

    def __call__(self, image, uniform, fill):
        """Returns the image after the operations that `uniform` draws.

        Args:
            image: Pillow image of mode "RGB" or "L".
            uniform: float64 array (draws,) of uniforms in [0, 1).
            fill: the colour of pixels from outside the image, an int in [0, 255] per channel.

        Returns:
            Pillow image of the same size and mode.
        """
        fill = fill if len(fill) > 1 else fill[0]
        for first in range(0, self.draws, DRAWS):
            image = self._one(image, uniform[first : first + DRAWS], fill)
        return image

    def _one(self, image, uniform, fill):
        applied, drawn, *gauss, side = uniform
        if applied >= self.probability:
            return image
        level = self.magnitude + self.deviation * normal(*gauss)
        strength = min(max(level, 0), MAX_LEVEL) / MAX_LEVEL
        operation = list(OPERATIONS.values())[int(drawn * len(OPERATIONS))]
        return operation(image, strength, -1 if side < 0.5 else 1, fill)


def normal(first, second):
    """Returns a standard normal number made of two independent uniforms in [0, 1) (Box, Muller)."""
    return math.sqrt(-2 * math.log1p(-first)) * math.cos(2 * math.pi * second)
