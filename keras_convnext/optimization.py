"""The optimizer of the papers: AdamW with warm-up and cosine, layer-wise rates, averaged weights.

Source: arXiv 2201.03545, section A.1 (Tables 5 and 6), and the training code published with it.
"""

import contextlib
import math
import re

import keras
from keras import ops

serializable = keras.saving.register_keras_serializable(package="keras_convnext")
BACKEND = keras.backend.backend()


def _check(argument, value, holds, allowed):
    if not holds:
        raise ValueError(f"`{argument}` must be {allowed}, received {value!r}.")


@serializable
class WarmupCosine(keras.optimizers.schedules.LearningRateSchedule):
    """A linear warm-up, then half a cosine; one value per step of the optimizer.

    Step 0 of the warm-up has the value `start`, its last step the value `learning_rate`, and so
    has the first step after it. The cosine falls towards `minimum`, which every step from
    `total_steps` on has.

    Source: the schedule of the published training code; arXiv 2201.03545, Table 5 (`minimum`).

    Args:
        learning_rate: the peak, > 0. The papers give it for a batch: 4e-3 for 4096 images is
            `4e-3 * batch / 4096` for others.
        total_steps: steps of the whole training, warm-up included, an int >= 1. With gradient
            accumulation a step is one update of the weights.
        warmup_steps: int, from 0 to below `total_steps`.
        minimum: where the cosine ends, from 0 to `learning_rate`.
        start: where the warm-up starts, >= 0.

    Raises:
        ValueError: if an argument is outside of its range.
    """

    def __init__(self, learning_rate, total_steps, warmup_steps=0, minimum=1e-6, start=0.0):
        _check("learning_rate", learning_rate, 0 < learning_rate < math.inf, "finite and > 0")
        _check("total_steps", total_steps, _is_count(total_steps, 1), "an int >= 1")
        in_range = _is_count(warmup_steps, 0) and warmup_steps < total_steps
        allowed = f"an int from 0 to below the {total_steps} of `total_steps`"
        _check("warmup_steps", warmup_steps, in_range, allowed)
        allowed = f"from 0 to the `learning_rate` of {learning_rate}"
        _check("minimum", minimum, 0 <= minimum <= learning_rate, allowed)
        _check("start", start, 0 <= start < math.inf, "finite and >= 0")
        self.learning_rate, self.minimum, self.start = learning_rate, minimum, start
        self.total_steps, self.warmup_steps = total_steps, warmup_steps

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


def _is_count(value, least):
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


LAYER = re.compile(r"stem|downsample(\d+)|stage(\d+)_block(\d+)")


def layer_groups(model):
    """The groups of layers that share a learning rate under layer-wise decay.

    The stem is group 0; then each stage, together with the downsampling before it, is one group.
    The long stage (the third, or the only one of an isotropic model) has one group per three
    consecutive blocks, its downsampling in the first of them. Norm and classifier, and every layer
    that is not one of `ConvNeXt(...)`, are the last group. For depths 3, 3, 27, 3 that makes the
    groups 0 to 13 of the published code, for 3, 3, 9, 3 the groups 0 to 7.

    The published code has no rule for isotropic models. "Every 3 consecutive blocks" (section A.1)
    gives those of 18 blocks the groups 0 to 7, those of 36 the groups 0 to 13.

    Args:
        model: a `ConvNeXt(...)`, or a model that has one inside.

    Returns:
        `{layer name: group}` of the layers with weights, in the model's order.

    Raises:
        ValueError: if the model has no blocks named `stage{s}_block{b}`.
    """
    names = dict.fromkeys(_layer_of(weight.path) for weight in model.weights)
    depths = stage_depths(names)
    starts = [1]
    for stage in range(len(depths)):
        starts.append(starts[-1] + math.ceil(depths[stage] / _blocks_per_group(stage, depths)))
    return {name: _group(name, depths, starts) for name in names}


def _group(name, depths, starts):
    match = LAYER.fullmatch(name)
    if not match:
        return starts[-1]
    downsample, stage, block = match.groups()
    if stage:
        return starts[int(stage)] + int(block) // _blocks_per_group(int(stage), depths)
    return starts[int(downsample)] if downsample else 0


def _blocks_per_group(stage, depths):
    is_long = stage == 2 or len(depths) == 1
    return 3 if is_long else depths[stage]


def _layer_of(path):
    """-> the layer of `ConvNeXt(...)` that a weight is in, else the innermost layer."""
    *layers, _ = ("", *path.split("/"))
    return next((layer for layer in layers if LAYER.fullmatch(layer)), layers[-1])


def stage_depths(names):
    """-> the blocks of each stage, from the names of layers; raises if there are none."""
    stages = [int(match[2]) for match in map(LAYER.fullmatch, names) if match and match[2]]
    if not stages:
        raise ValueError(
            "The model has no ConvNeXt blocks 'stage0_block0' and so on: "
            "layer-wise rates and freezing need a model made by `ConvNeXt(...)`."
        )
    return [stages.count(stage) for stage in range(max(stages) + 1)]


def learning_rate_scales(model, decay):
    """Factors on the learning rate, per layer, that fall from the classifier to the stem.

    Args:
        model: a `ConvNeXt(...)`, or a model that has one inside.
        decay: factor from one group of layers to the one before, in (0, 1]; see `layer_groups`.
            Table 6 of arXiv 2201.03545: 0.7 for weights of ImageNet-1K, 0.8 for those of -22K.

    Returns:
        `{layer name: scale}`, for `AdamW(learning_rate_scales=...)`. The last group has scale 1.

    Raises:
        ValueError: if `decay` is outside of (0, 1], or the model has no ConvNeXt blocks.
    """
    _check("decay", decay, 0 < decay <= 1, "in (0, 1]")
    groups = layer_groups(model)
    return {name: decay ** (max(groups.values()) - group) for name, group in groups.items()}


@serializable
class AdamW(keras.optimizers.AdamW):
    """AdamW as the papers train with it.

    What differs from `keras.optimizers.AdamW`:

    - The defaults are those of the papers, and epsilon stands where PyTorch has it:
      `m / (1 - beta_1^t) / (sqrt(v / (1 - beta_2^t)) + epsilon)`. (Behind a layer scale of 1e-6 the
      gradients are as small as epsilon, and its place matters.)
    - Weight decay never falls on tensors of rank 0 or 1: biases, norms, layer scale, GRN.
    - A schedule counts updates of the weights, also under gradient accumulation.
    - The averages of `use_ema` start at the initial weights, change once per update of the weights
      (no update, no change: within an accumulation, or where loss scaling skips a step), are at
      least float32, and never overwrite the weights; see `averaged_weights` and `AverageWeights`.
      Only what is trained has an average: statistics of BatchNormalization keep their own.
    - Under `tf.distribute` the gradients are added up over the replicas before they are clipped,
      and gradient accumulation works.

    Works inside of `keras.optimizers.LossScaleOptimizer`, which `compile()` puts around it under
    `mixed_float16`.

    Source: arXiv 2201.03545, Tables 5 and 6; arXiv 1711.05101.

    Args:
        learning_rate: float, `WarmupCosine` or another schedule of Keras.
        weight_decay: multiplies the learning rate; >= 0.
        beta_1, beta_2: of the running means of gradient and squared gradient, in [0, 1).
        epsilon: added to the root of the second; > 0.
        exclude: regular expressions; a weight in whose path (`stage0_block0/dwconv/kernel`) one is
            found has no weight decay either.
        learning_rate_scales: `{layer name: scale}`; a weight with that layer in its path has its
            learning rate, and with it the decay, multiplied by `scale`; others by 1. See
            `learning_rate_scales()`.
        clipnorm: largest L2 norm of each gradient, or `None`.
        global_clipnorm: largest L2 norm of all gradients together, or `None`.
        clipvalue: largest absolute value in a gradient, or `None`. At most one of the three.
        use_ema: whether averages of the weights are kept.
        ema_momentum: of the averages, in [0, 1]. The papers: 0.9999.
        gradient_accumulation_steps: batches per update of the weights, `None` or 1 for one. Their
            mean gradient is that of one batch as large as all of them.
        loss_scale_factor: constant factor on the loss, which the gradients are divided by.
        name: of the optimizer.

    Raises:
        ValueError: if an argument is outside of its range, or (when the weights are known) no
            weight is in any layer of `learning_rate_scales`.
    """

    def __init__(
        self,
        learning_rate,
        weight_decay=0.05,
        beta_1=0.9,
        beta_2=0.999,
        epsilon=1e-8,
        *,
        exclude=(),
        learning_rate_scales=None,
        clipnorm=None,
        global_clipnorm=None,
        clipvalue=None,
        use_ema=False,
        ema_momentum=0.9999,
        gradient_accumulation_steps=None,
        loss_scale_factor=None,
        name="adamw",
    ):
        for argument, beta in (("beta_1", beta_1), ("beta_2", beta_2)):
            _check(argument, beta, 0 <= beta < 1, "in [0, 1)")
        _check("epsilon", epsilon, epsilon > 0, "> 0")
        has_decay = weight_decay is not None and 0 <= weight_decay < math.inf
        _check("weight_decay", weight_decay, has_decay, "finite and >= 0")
        steps = gradient_accumulation_steps
        _check("gradient_accumulation_steps", steps, steps is None or _is_count(steps, 1), COUNT)
        super().__init__(
            learning_rate,
            weight_decay,
            beta_1,
            beta_2,
            epsilon,
            clipnorm=clipnorm,
            global_clipnorm=global_clipnorm,
            clipvalue=clipvalue,
            use_ema=use_ema,
            ema_momentum=ema_momentum,
            gradient_accumulation_steps=None if steps == 1 else steps,
            loss_scale_factor=loss_scale_factor,
            name=name,
        )
        self.exclude = _patterns(exclude)
        self.learning_rate_scales = _checked_scales(learning_rate_scales)
        self._averages_have_begun = False

    def get_config(self):
        config = super().get_config()
        for fixed in ("amsgrad", "ema_overwrite_frequency"):  # neither is offered here
            config.pop(fixed)
        scales = self.learning_rate_scales
        return {
            **config,
            "exclude": list(self.exclude),
            "learning_rate_scales": dict(scales) if scales else None,
        }

    def build(self, variables):
        if self.built:
            return
        super().build(variables)
        scales = [self._scale_of(getattr(v, "path", v.name)) for v in variables]
        if self.learning_rate_scales and not any(scales):
            raise ValueError(
                "None of the model's trained weights is in a layer of `learning_rate_scales`, "
                f"which names {_shortened(self.learning_rate_scales)}; the weights are "
                f"{_shortened([getattr(v, 'path', v.name) for v in variables])}."
            )
        self._scales = [1.0 if scale is None else scale for scale in scales]

    def _scale_of(self, path):
        names = self.learning_rate_scales or {}
        return next((names[part] for part in path.split("/") if part in names), None)

    def _use_weight_decay(self, variable):
        path = getattr(variable, "path", variable.name)
        if len(variable.shape) < 2 or any(re.search(pattern, path) for pattern in self.exclude):
            return False
        return super()._use_weight_decay(variable)  # what `exclude_from_weight_decay()` was given

    def add_optimizer_variables(self, trainable_variables, name, initializer="zeros"):
        if name == "average":
            return [self._add_average(variable) for variable in trainable_variables]
        return super().add_optimizer_variables(trainable_variables, name, initializer)

    def _add_average(self, variable):
        start = _CopyOf(variable)
        if _wide(variable.dtype) == keras.backend.standardize_dtype(variable.dtype):
            return self.add_variable_from_reference(variable, "average", start)
        return self.add_variable(
            variable.shape,
            start,
            dtype=_wide(variable.dtype),
            layout=getattr(variable, "_layout", None),
            name=f"{variable.path.replace('/', '_')}_average",
        )

    # Keras asks the schedule at the number of batches.
    def _get_current_learning_rate(self):
        if isinstance(self._learning_rate, keras.optimizers.schedules.LearningRateSchedule):
            return self._learning_rate(self.iterations)
        return super()._get_current_learning_rate()

    # At the end of fit() Keras would put the averages in the place of the weights; on JAX the two
    # would even share one buffer, which the next step may then free.
    def finalize_variable_values(self, var_list):
        pass

    def _backend_apply_gradients(self, grads, trainable_variables):
        steps, variables = self.gradient_accumulation_steps, trainable_variables
        if not steps:
            return self._step(grads, variables)
        sums = [self._accumulated_gradients[self._get_variable_index(v)] for v in variables]

        def step(grads):
            mean = [(grad + total) / steps for grad, total in zip(grads, sums, strict=True)]
            self._step(mean, variables)
            self._backend_reset_gradient_accumulators()

        def wait(grads):
            self._backend_increment_gradient_accumulators(grads, sums)

        EITHER[BACKEND](self, lambda: (self._iterations + 1) % steps == 0, step, wait, grads)

    def _step(self, grads, variables):
        """One update of the weights. Decay and averages are in it."""
        grads = self._clip_gradients(_summed_over_replicas(grads))
        self._backend_update_step(grads, variables, self.learning_rate)

    # TensorFlow's part of Keras adds the replicas' gradients up here, after the clipping.
    def _all_reduce_sum_gradients(self, grads_and_vars):
        return grads_and_vars

    def _backend_update_step(self, grads, trainable_variables, learning_rate):
        if BACKEND == "torch":
            return self._update_together(grads, trainable_variables, learning_rate)
        super()._backend_update_step(grads, trainable_variables, learning_rate)

    def update_step(self, gradient, variable, learning_rate):
        index, dtype = self._get_variable_index(variable), variable.dtype
        m, v = self._momentums[index], self._velocities[index]
        rate = ops.cast(learning_rate, _wide(dtype)) * self._scales[index]
        first, second = (ops.cast(c, dtype) for c in self._bias_corrections(_wide(dtype)))
        gradient = ops.cast(gradient, dtype)
        before = self._average_before(index, variable)

        self.assign_add(m, (gradient - m) * (1 - self.beta_1))
        self.assign_add(v, (gradient * gradient - v) * (1 - self.beta_2))
        change = m / first / (ops.sqrt(v) / second + self.epsilon)
        if self._use_weight_decay(self._trainable_variables[index]):
            change = change + variable * self.weight_decay
        self.assign_sub(variable, change * ops.cast(rate, dtype))

        if before is not None:
            average = self._model_variables_moving_average[index]
            new = ops.cast(variable, average.dtype) * (1 - self.ema_momentum)
            self.assign(average, before * self.ema_momentum + new)

    def _average_before(self, index, variable):
        """The average to continue; on the first step the weight, which may have been loaded since
        the optimizer was built."""
        if not self.use_ema:
            return None
        average = self._model_variables_moving_average[index]
        now = ops.cast(variable, average.dtype)
        return ops.where(ops.equal(self.iterations, 0), now, ops.convert_to_tensor(average))

    def _bias_corrections(self, dtype):
        """1 - beta_1^t and the root of 1 - beta_2^t, without the digits that float32 would lose."""
        step = ops.cast(self.iterations + 1, dtype)
        logs = (math.log(beta) if beta else -math.inf for beta in (self.beta_1, self.beta_2))
        first, second = (-ops.expm1(step * log) for log in logs)
        return first, ops.sqrt(second)

    def _update_together(self, grads, variables, learning_rate):
        """`update_step` for all variables at once: PyTorch runs one kernel for many tensors."""
        import torch

        indices = [self._get_variable_index(variable) for variable in variables]
        weights = [variable.value for variable in variables]
        m = [self._momentums[index].value for index in indices]
        v = [self._velocities[index].value for index in indices]
        grads = [grad.to(weight.dtype) for grad, weight in zip(grads, weights, strict=True)]
        first, second = self._bias_corrections(_wide(variables[0].dtype))
        with torch.no_grad():
            self._begin_averages(weights, indices)
            torch._foreach_lerp_(m, grads, 1 - self.beta_1)
            torch._foreach_mul_(v, self.beta_2)
            torch._foreach_addcmul_(v, grads, grads, 1 - self.beta_2)
            changes = torch._foreach_sqrt(v)
            torch._foreach_div_(changes, second)
            torch._foreach_add_(changes, self.epsilon)
            changes = torch._foreach_div(m, changes)
            for scale, decayed, places in self._alike(variables, indices):
                some, their = [weights[p] for p in places], [changes[p] for p in places]
                rate = learning_rate * scale
                if decayed:
                    torch._foreach_mul_(some, 1 - rate * self.weight_decay)
                torch._foreach_mul_(their, rate / first)
            torch._foreach_sub_(weights, changes)
            self._continue_averages(weights, indices)

    def _alike(self, variables, indices):
        """-> (scale, whether decayed, places in `variables`) of variables that agree in both."""
        groups = {}
        for place, (variable, index) in enumerate(zip(variables, indices, strict=True)):
            key = self._scales[index], self._use_weight_decay(variable)
            groups.setdefault(key, []).append(place)
        return [(*key, places) for key, places in groups.items()]

    def _begin_averages(self, weights, indices):
        # asked once and not on each step: on a GPU the answer waits for all that is under way
        if self.use_ema and not self._averages_have_begun:
            if int(self.iterations) == 0:
                for weight, index in zip(weights, indices, strict=True):
                    self._model_variables_moving_average[index].assign(weight)
            self._averages_have_begun = True

    def _continue_averages(self, weights, indices):
        import torch

        if self.use_ema:
            averages = [self._model_variables_moving_average[index].value for index in indices]
            now = [w.to(a.dtype) for w, a in zip(weights, averages, strict=True)]
            torch._foreach_mul_(averages, self.ema_momentum)
            torch._foreach_add_(averages, now, alpha=1 - self.ema_momentum)

    @property
    def averages(self):
        """Pairs of a trained variable and its average, in the model's order.

        Before the first update, or without a model yet, there are none.

        Raises:
            ValueError: if the optimizer was made without `use_ema`.
        """
        if not self.use_ema:
            raise ValueError(NO_AVERAGES.format(type(self).__name__))
        if not self.built or int(ops.convert_to_numpy(self.iterations)) == 0:
            return []
        pairs = zip(self._trainable_variables, self._model_variables_moving_average, strict=True)
        return list(pairs)


COUNT = "None or an int >= 1"
NO_AVERAGES = (
    "The {} keeps no averages of the weights: compile the model with "
    "`keras_convnext.AdamW(..., use_ema=True)`."
)


class _CopyOf(keras.initializers.Initializer):
    """Starts a variable with the value of another, in a buffer of its own."""

    def __init__(self, variable):
        self.variable = variable

    def __call__(self, shape, dtype=None):
        return ops.cast(ops.copy(self.variable), dtype)


def _wide(dtype):
    return keras.backend.result_type(keras.backend.standardize_dtype(dtype), "float32")


def _patterns(exclude):
    if isinstance(exclude, str):
        raise ValueError(f"`exclude` must be a list of regular expressions, received {exclude!r}.")
    for pattern in exclude:
        try:
            re.compile(pattern)
        except (re.error, TypeError) as error:
            raise ValueError(
                f"`exclude` must be regular expressions, received {pattern!r}: {error}."
            ) from error
    return tuple(exclude)


def _checked_scales(scales):
    for name, scale in (scales or {}).items():
        _check(f"learning_rate_scales[{name!r}]", scale, 0 < scale < math.inf, "finite and > 0")
    return dict(scales) if scales else None


def _shortened(names, most=3):
    names = list(names)
    return ", ".join(map(repr, names[:most])) + (" and others" if len(names) > most else "")


def _summed_over_replicas(grads):
    if BACKEND != "tensorflow":
        return grads
    import tensorflow as tf

    replica = tf.distribute.get_replica_context()
    if replica is None or replica.num_replicas_in_sync == 1:
        return grads
    return replica.all_reduce(tf.distribute.ReduceOp.SUM, list(grads))


def _either_on_tensorflow(optimizer, condition, step, wait, grads):
    import tensorflow as tf

    if tf.__internal__.distribute.strategy_supports_no_merge_call():
        tf.cond(condition(), lambda: _nothing(step(grads)), lambda: _nothing(wait(grads)))
        return

    # Within a branch the replicas could not meet, so that they decide together.
    def across_replicas(strategy, grads):
        def on_each(function):
            strategy.extended.call_for_each_replica(function, args=(grads,))

        tf.cond(condition(), lambda: on_each(step), lambda: on_each(wait))

    tf.distribute.get_replica_context().merge_call(across_replicas, args=(grads,))


def _nothing(_):
    return None


def _either_on_jax(optimizer, condition, step, wait, grads):
    """Branches cannot have side effects: each returns the values of all variables after it."""
    variables = [*optimizer._trainable_variables, *optimizer.variables]
    values = [variable.value for variable in variables]

    def after(function):
        with keras.StatelessScope(list(zip(variables, values, strict=True))) as scope:
            function(grads)
        return [scope.get_current_value(variable) for variable in variables]

    chosen = ops.cond(condition(), lambda: after(step), lambda: after(wait))
    for variable, value in zip(variables, chosen, strict=True):
        variable.assign(value)


def _either_eagerly(optimizer, condition, step, wait, grads):
    step(grads) if condition() else wait(grads)


EITHER = {
    "tensorflow": _either_on_tensorflow,
    "jax": _either_on_jax,
    "torch": _either_eagerly,
}


@contextlib.contextmanager
def averaged_weights(model):
    """Within `with averaged_weights(model):` the model has the averages for its weights.

    To evaluate, predict, or save what the averages give. The weights of the training are back
    afterwards, to the bit, also after an exception. Before the first update the averages are the
    weights. Weights that are not trained (frozen layers, statistics of BatchNormalization) stay.
    Do not train inside: it would change the averages' copy, which is dropped.

    Args:
        model: compiled with `keras_convnext.AdamW(..., use_ema=True)`, also where
            `keras.optimizers.LossScaleOptimizer` is around it.

    Raises:
        ValueError: if the model is not compiled, or its optimizer keeps no averages.
    """
    restore = _put_averages_in(model)
    try:
        yield model
    finally:
        restore()


def _put_averages_in(model):
    """-> a function that puts the weights back."""
    _fill_variables(model)
    pairs = _averaging_optimizer(model).averages
    weights = [(variable, ops.copy(variable)) for variable, _ in pairs]
    for variable, average in pairs:
        # a copy: on JAX a buffer that two variables share is freed with either of them
        variable.assign(ops.cast(ops.copy(average), variable.dtype))

    def restore():
        _fill_variables(model)  # now, or Keras would later put the averages over the weights
        for variable, weight in weights:
            variable.assign(weight)

    return restore


def _fill_variables(model):
    """On JAX the variables are empty in the middle of fit(), and after an evaluate() cut short."""
    if BACKEND == "jax":
        model.jax_state_sync()


def _averaging_optimizer(model):
    optimizer = getattr(model, "optimizer", None)
    if optimizer is None:
        raise ValueError(f"The model {model.name!r} is not compiled, so that it has no averages.")
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    if not isinstance(optimizer, AdamW):
        raise ValueError(NO_AVERAGES.format(type(optimizer).__name__))
    return optimizer


class AverageWeights(keras.callbacks.Callback):
    """Validates and predicts with the averages of the weights; trains on with the weights.

    For `fit(..., callbacks=[AverageWeights()])`, `evaluate()` and `predict()` of a model compiled
    with `keras_convnext.AdamW(..., use_ema=True)`. The weights are back, to the bit, when the
    validation is over; other callbacks meet them at the end of an epoch. To save the averages, use
    `averaged_weights`. (Keras' SwapEMAWeights adds and subtracts on TensorFlow, which rounds.)

    If a validation is cut short by an exception, `restore()` puts the weights back; so does the
    next `fit`, `evaluate` or `predict` with this callback.

    Raises:
        ValueError: at the start, if the model's optimizer keeps no averages.
    """

    def __init__(self):
        super().__init__()
        self._restore = None

    def restore(self):
        """Puts the weights back, if the averages are in their place."""
        if self._restore is not None:
            restore, self._restore = self._restore, None
            restore()

    def _put_in(self):
        self.restore()
        self._restore = _put_averages_in(self.model)

    def on_train_begin(self, logs=None):
        self.restore()
        _averaging_optimizer(self.model).averages  # noqa: B018 - raises where there are none

    def on_test_begin(self, logs=None):
        self._put_in()

    def on_test_end(self, logs=None):
        self.restore()

    def on_predict_begin(self, logs=None):
        self._put_in()

    def on_predict_end(self, logs=None):
        self.restore()
