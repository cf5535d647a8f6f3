"""Learning rates as functions of the step: half a cosine, a polynomial or steps, after a warm-up.

Sources: arXiv 2201.03545, section A.1 (Tables 5 and 6) for classification and A.3 for segmentation
and detection, and the training code and configurations published with it.
"""

import math

import keras
from keras import ops

from keras_convnext import checks

serializable = keras.saving.register_keras_serializable(package="keras_convnext")


@serializable
class WarmupCosine(keras.optimizers.schedules.LearningRateSchedule):
    """A linear warm-up, then half a cosine; one value per step of the optimizer.

    The first step of the warm-up has the value `start`, the last one `learning_rate`, and the
    first step after it has `learning_rate` too. The cosine falls towards `minimum`, the value of
    every step from `total_steps` on.

    Source: the schedule of the published training code; arXiv 2201.03545, Table 5 (`minimum`).

    Args:
        learning_rate: the peak, > 0. The papers state it for one batch size: 4e-3 for 4096 images
            is `4e-3 * batch / 4096` for others.
        total_steps: steps of the whole training, warm-up included, an int >= 1. With gradient
            accumulation a step is one update of the weights.
        warmup_steps: int, from 0 to below `total_steps`.
        minimum: where the cosine ends, from 0 to `learning_rate`.
        start: where the warm-up starts, >= 0.

    Raises:
        ValueError: if an argument is outside its range.

    Example:
        from keras_convnext import WarmupCosine
        schedule = WarmupCosine(4e-3, total_steps=100, warmup_steps=10)
        [float(schedule(step)) for step in (0, 10, 55, 100)]  # [0.0, 0.004, 0.002, 0.000001]
    """

    def __init__(self, learning_rate, total_steps, warmup_steps=0, minimum=1e-6, start=0.0):
        self.learning_rate = checks.number("learning_rate", learning_rate, above=0)
        self.total_steps, self.warmup_steps = _steps(total_steps, warmup_steps)
        self.minimum = _minimum(minimum, learning_rate)
        self.start = checks.number("start", start, least=0)

    def __call__(self, step):
        step = ops.convert_to_tensor(step)
        cosine = self._cosine(step)
        if not self.warmup_steps:
            return cosine
        done = ops.cast(step, "float32") / max(self.warmup_steps - 1, 1)
        warmup = self.start + (self.learning_rate - self.start) * done
        return ops.where(step < self.warmup_steps, warmup, cosine)

    def _cosine(self, step):
        length = self.total_steps - self.warmup_steps
        left = ops.cast(ops.clip(self.total_steps - step, 0, length), "float32")
        # (1 + cos(pi * x)) / 2, without the digits that float32 would lose where the cosine is -1
        share = ops.square(ops.sin(left * (math.pi / 2 / length)))
        return self.minimum + (self.learning_rate - self.minimum) * share

    def get_config(self):
        fields = ("learning_rate", "total_steps", "warmup_steps", "minimum", "start")
        return {field: getattr(self, field) for field in fields}


@serializable
class WarmupPolynomial(keras.optimizers.schedules.LearningRateSchedule):
    """A polynomial from `learning_rate` to `minimum`, its first steps scaled up from almost 0.

    Step i has the value `(learning_rate - minimum) * (1 - i / total_steps) ** power + minimum`, in
    the warm-up times a factor that rises linearly from `warmup_factor` to 1.

    Source: the segmentation configurations published with arXiv 2201.03545 (section A.3).

    Args:
        learning_rate: at the start without warm-up, > 0. The paper: 1e-4 for 16 images.
        total_steps: steps of the whole training, an int >= 1.
        warmup_steps: int from 0 to below `total_steps`. The paper: 1500.
        power: of the polynomial, > 0. The paper: 1, a straight line.
        minimum: from `total_steps` on, from 0 to `learning_rate`.
        warmup_factor: in [0, 1].

    Raises:
        ValueError: if an argument is outside its range.

    Example:
        from keras_convnext.optimization import WarmupPolynomial
        schedule = WarmupPolynomial(1e-4, total_steps=160_000, warmup_steps=1500)
        float(schedule(80_000))  # 0.00005
    """

    def __init__(
        self,
        learning_rate,
        total_steps,
        warmup_steps=0,
        power=1.0,
        minimum=0.0,
        warmup_factor=1e-6,
    ):
        self.learning_rate = checks.number("learning_rate", learning_rate, above=0)
        self.total_steps, self.warmup_steps = _steps(total_steps, warmup_steps)
        self.power = checks.number("power", power, above=0)
        self.minimum = _minimum(minimum, learning_rate)
        self.warmup_factor = checks.number("warmup_factor", warmup_factor, least=0, most=1)

    def __call__(self, step):
        step = ops.cast(step, "float32")
        left = ops.clip(1 - step / self.total_steps, 0.0, 1.0)
        rate = self.minimum + (self.learning_rate - self.minimum) * left**self.power
        if not self.warmup_steps:
            return rate
        done = ops.clip(step / self.warmup_steps, 0.0, 1.0)
        return rate * (self.warmup_factor + (1 - self.warmup_factor) * done)

    def get_config(self):
        fields = ("learning_rate", "total_steps", "warmup_steps", "power", "minimum")
        return {field: getattr(self, field) for field in (*fields, "warmup_factor")}


@serializable
class WarmupSteps(keras.optimizers.schedules.LearningRateSchedule):
    """A rate that is multiplied by a factor at some steps, its first steps scaled up.

    Step i has the value `learning_rate * factor ** n`, where n of the `boundaries` are <= i; in the
    warm-up times a number that rises linearly from `warmup_factor` to 1.

    Source: the detection configurations published with arXiv 2201.03545 (section A.3).

    Args:
        learning_rate: until the first boundary, > 0. The paper: 1e-4 or 2e-4 for 16 images.
        boundaries: steps from which on the rate is lower, rising ints >= 1. The paper: those that
            begin the epochs 27 and 33 of 36, counted from 0.
        factor: in (0, 1]. The paper: 0.1.
        warmup_steps: int >= 0. The paper: 500.
        warmup_factor: in [0, 1]. The paper: 0.001.
        minimum: the rate does not fall below it; from 0 to `learning_rate`. The warm-up is below.

    Raises:
        ValueError: if an argument is outside its range.

    Example:
        from keras_convnext.optimization import WarmupSteps
        schedule = WarmupSteps(1e-4, boundaries=[270, 330], warmup_steps=5)
        [float(schedule(step)) for step in (100, 300, 350)]  # [0.0001, 0.00001, 0.000001]
    """

    def __init__(
        self,
        learning_rate,
        boundaries,
        factor=0.1,
        warmup_steps=0,
        warmup_factor=1e-3,
        minimum=0.0,
    ):
        self.learning_rate = checks.number("learning_rate", learning_rate, above=0)
        self.boundaries = tuple(map(int, checks.integers("boundaries", boundaries, 1)))
        if list(self.boundaries) != sorted(set(self.boundaries)):
            checks.fail("boundaries", boundaries, "in rising order")
        self.factor = checks.number("factor", factor, above=0, most=1)
        self.warmup_steps = checks.integer("warmup_steps", warmup_steps, 0)
        self.warmup_factor = checks.number("warmup_factor", warmup_factor, least=0, most=1)
        self.minimum = _minimum(minimum, learning_rate)

    def __call__(self, step):
        step = ops.convert_to_tensor(step)
        rate = ops.full_like(ops.cast(step, "float32"), self.learning_rate)
        for number, boundary in enumerate(self.boundaries, 1):
            lower = max(self.minimum, self.learning_rate * self.factor**number)
            rate = ops.where(step >= boundary, lower, rate)
        if not self.warmup_steps:
            return rate
        done = ops.clip(ops.cast(step, "float32") / self.warmup_steps, 0.0, 1.0)
        return rate * (self.warmup_factor + (1 - self.warmup_factor) * done)

    def get_config(self):
        fields = ("learning_rate", "factor", "warmup_steps", "warmup_factor", "minimum")
        return {field: getattr(self, field) for field in fields} | {
            "boundaries": list(self.boundaries)
        }


def _steps(total_steps, warmup_steps):
    total_steps = checks.integer("total_steps", total_steps, 1)
    note = f"The warm-up is shorter than the `total_steps` of {total_steps}."
    return total_steps, checks.integer("warmup_steps", warmup_steps, 0, total_steps - 1, note=note)


def _minimum(minimum, learning_rate):
    note = f"The `learning_rate` is {learning_rate!r}."
    return checks.number("minimum", minimum, least=0, most=learning_rate, note=note)
