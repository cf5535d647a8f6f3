"""How the paper's segmentation is optimized: a straight line down, and rates by stage.

Source: the configurations published with arXiv 2201.03545 (Appendix A.3).
"""

import re

import keras
from keras import ops

from keras_convnext.optimization import LAYER


@keras.saving.register_keras_serializable(package="keras_convnext")
class WarmupPolynomial(keras.optimizers.schedules.LearningRateSchedule):
    """A polynomial from `learning_rate` to `minimum`, its first steps scaled up from almost 0.

    Step i has the value `(learning_rate - minimum) * (1 - i / total_steps) ** power + minimum`, in
    the warm-up times a factor that rises linearly from `warmup_factor` to 1.

    Args:
        learning_rate: at the start without warm-up, > 0. The paper: 1e-4 for 16 images.
        total_steps: steps of the whole training, an int >= 1.
        warmup_steps: int from 0 to below `total_steps`. The paper: 1500.
        power: of the polynomial, > 0. The paper: 1, a straight line.
        minimum: from `total_steps` on, from 0 to `learning_rate`.
        warmup_factor: in [0, 1].

    Raises:
        ValueError: if an argument is outside of its range.
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
        holds = {
            "learning_rate": learning_rate > 0,
            "total_steps": total_steps >= 1,
            "warmup_steps": 0 <= warmup_steps < total_steps,
            "power": power > 0,
            "minimum": 0 <= minimum <= learning_rate,
            "warmup_factor": 0 <= warmup_factor <= 1,
        }
        self.fields = dict(
            learning_rate=learning_rate,
            total_steps=total_steps,
            warmup_steps=warmup_steps,
            power=power,
            minimum=minimum,
            warmup_factor=warmup_factor,
        )
        for name, is_good in holds.items():
            if not is_good:
                raise ValueError(
                    f"`{name}` is out of its range: received {self.fields}. Allowed are "
                    "`learning_rate` > 0, 0 <= `warmup_steps` < `total_steps`, `power` > 0, 0 <= "
                    "`minimum` <= `learning_rate`, `warmup_factor` in [0, 1]."
                )

    def __call__(self, step):
        fields = self.fields
        step = ops.cast(step, "float32")
        left = ops.clip(1 - step / fields["total_steps"], 0.0, 1.0)
        height = fields["learning_rate"] - fields["minimum"]
        rate = fields["minimum"] + height * left ** fields["power"]
        if not fields["warmup_steps"]:
            return rate
        done = ops.clip(step / fields["warmup_steps"], 0.0, 1.0)
        return rate * (fields["warmup_factor"] + (1 - fields["warmup_factor"]) * done)

    def get_config(self):
        return dict(self.fields)


def stage_wise_scales(model, decay, depth):
    """Factors on the learning rate, per layer, that are lower for the ConvNeXt than for the heads.

    With N = `depth` + 2 groups, of which the heads and the norms behind the stages are the last:
    the stem and all downsampling layers are group 0, stage s is group s + 1, and group g has the
    scale `decay ** (N - 1 - g)`. `depth` only sets the distance to the heads; the published
    configurations have 6 for Tiny and 12 for the others.

    Args:
        model: an `UperNet(...)`, or any model with the layers of a `ConvNeXt(...)`.
        decay: factor from one group to the one before, in (0, 1]. The paper: 0.9.
        depth: int from 3 on: `stages - 1`.

    Returns:
        `{layer name: scale}`, for `AdamW(learning_rate_scales=...)`.

    Raises:
        ValueError: if an argument is out of its range, or the model has no ConvNeXt blocks.
    """
    if not 0 < decay <= 1 or depth < 3:
        raise ValueError(
            f"`decay` must be in (0, 1] and `depth` at least 3, received {decay!r} and {depth!r}."
        )
    names = [layer.name for layer in model.layers if LAYER.fullmatch(layer.name)]
    if not any(name.startswith("stage") for name in names):
        raise ValueError("The model has no layers named 'stage0_block0': it is no ConvNeXt's.")
    return {name: decay ** (depth + 1 - _group(name)) for name in names}


def _group(name):
    return int(re.match(r"stage(\d+)", name)[1]) + 1 if name.startswith("stage") else 0
