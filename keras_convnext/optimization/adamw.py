"""AdamW as the papers train with it: layer-wise rates, averages, accumulation, tf.distribute.

Sources: arXiv 2201.03545, Tables 5 and 6; arXiv 1711.05101.
"""

import contextlib
import math
import re

import keras
from keras import ops

from keras_convnext import checks
from keras_convnext.optimization.accumulation import summed_over_replicas, update_or_wait

serializable = keras.saving.register_keras_serializable(package="keras_convnext")
BACKEND = keras.backend.backend()


@contextlib.contextmanager
def _outside_of_the_step(variables):
    """A context in which TensorFlow makes variables outside of the step that it traces.

    It traces a step that makes variables a second time, which doubles the time of the first step.
    Under `tf.distribute` a strategy makes the variables; and where the step makes `variables`, too,
    they have no value yet outside of it.
    """
    if BACKEND != "tensorflow":
        yield
        return
    import tensorflow as tf
    from tensorflow.python.ops.resource_variable_ops import default_variable_creator_v2

    if tf.distribute.has_strategy() or tf.executing_eagerly() or not _have_values(variables):
        yield
        return

    def make(next_creator, **kwargs):  # the next one is that of the step
        return default_variable_creator_v2(**kwargs)

    with tf.init_scope(), tf.variable_creator_scope(make):
        yield


def _have_values(variables):
    """Returns whether variables of TensorFlow have a value outside of the step that is traced."""
    import tensorflow as tf

    with tf.init_scope():
        if not tf.executing_eagerly():
            return False
        values = [v if isinstance(v, tf.Variable) else v.value for v in variables]
        return all(isinstance(v, tf.Variable) and bool(v.is_initialized()) for v in values)


@serializable
class AdamW(keras.optimizers.AdamW):
    """AdamW as the papers train with it.

    It differs in these points from `keras.optimizers.AdamW`:

    - The defaults are the papers', and epsilon stands where PyTorch has it:
      `m / (1 - beta_1^t) / (sqrt(v / (1 - beta_2^t)) + epsilon)`. (Behind a layer scale of 1e-6 the
      gradients are as small as epsilon, and its place matters.)
    - Weight decay never falls on tensors of rank 0 or 1: biases, norms, layer scale, GRN.
    - A schedule counts updates of the weights, also under gradient accumulation.
    - The averages of `use_ema` start at the initial weights, change once per update of the weights
      (no update, no change: within an accumulation, or where loss scaling skips a step), are at
      least float32, and never overwrite the weights; see `averaged_weights` and `AverageWeights`.
      Only trained weights have an average; BatchNormalization averages its statistics itself.
    - Under `tf.distribute` the gradients are summed over the replicas before they are clipped,
      and gradient accumulation works.

    Works inside `keras.optimizers.LossScaleOptimizer`, which `compile()` puts around it under
    `mixed_float16`.

    Source: arXiv 2201.03545, Tables 5 and 6; arXiv 1711.05101.

    Args:
        learning_rate: float, `WarmupCosine` or another schedule of Keras.
        weight_decay: multiplies the learning rate and the weight; >= 0.
        beta_1, beta_2: of the running means of gradient and squared gradient, in [0, 1).
        epsilon: added to the root of the second; > 0.
        exclude: regular expressions; a weight has no weight decay either if one of them is found in
            its path (`stage0_block0/dwconv/kernel`).
        learning_rate_scales: `{layer name: scale}`; a weight with that layer in its path has its
            learning rate, and with it the decay, multiplied by `scale`; others by 1. See
            `learning_rate_scales()`.
        clipnorm: largest L2 norm of each gradient, or `None`.
        global_clipnorm: largest L2 norm of all gradients together, or `None`.
        clipvalue: largest absolute value in a gradient, or `None`. At most one of the three.
        use_ema: whether averages of the weights are kept.
        ema_momentum: of the averages, in [0, 1]: `average = momentum * average + (1 - momentum) *
            weight`. The papers: 0.9999.
        gradient_accumulation_steps: batches per update of the weights, `None` or 1 for one. Their
            mean gradient is the gradient of one batch as large as all of them.
        loss_scale_factor: constant factor on the loss; the gradients are divided by it.
        name: of the optimizer.

    Raises:
        ValueError: if an argument is outside its range, or (when the weights are known) no
            weight is in any layer of `learning_rate_scales`.

    Example:
        from keras_convnext import AdamW, ConvNeXtAtto, WarmupCosine
        model = ConvNeXtAtto(weights=None, classes=5)
        schedule = WarmupCosine(4e-3 * 64 / 4096, total_steps=3000, warmup_steps=200)
        model.compile(AdamW(schedule, weight_decay=0.05), "sparse_categorical_crossentropy")
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
        steps = checks.integer(
            "gradient_accumulation_steps", gradient_accumulation_steps, 1, optional=True
        )
        super().__init__(
            learning_rate,
            checks.number("weight_decay", weight_decay, least=0),
            checks.number("beta_1", beta_1, least=0, below=1),
            checks.number("beta_2", beta_2, least=0, below=1),
            checks.number("epsilon", epsilon, above=0),
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
        self.before_train_end = None

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
        with _outside_of_the_step(variables):
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

    # Keras calls this in fit(), after the callbacks of the last epoch and before any on_train_end.
    # It would put the averages in the place of the weights; on JAX the two would even share one
    # buffer, which the next step may then free.
    def finalize_variable_values(self, var_list):
        call, self.before_train_end = self.before_train_end, None
        if call is not None:
            call()

    def _backend_apply_gradients(self, grads, trainable_variables):
        steps, variables = self.gradient_accumulation_steps, trainable_variables
        if not steps:
            return self._update(grads, variables)
        sums = [self._accumulated_gradients[self._get_variable_index(v)] for v in variables]

        def update(grads):
            mean = [(grad + total) / steps for grad, total in zip(grads, sums, strict=True)]
            self._update(mean, variables)
            self._backend_reset_gradient_accumulators()

        def wait(grads):
            self._backend_increment_gradient_accumulators(grads, sums)

        is_last = lambda: (self._iterations + 1) % steps == 0  # noqa: E731
        update_or_wait(self, is_last, update, wait, grads)

    def _update(self, grads, variables):
        """Updates the weights once, which includes weight decay and averages."""
        grads = self._clip_gradients(summed_over_replicas(grads))
        self._backend_update_step(grads, variables, self.learning_rate)

    # Keras on TensorFlow sums the replicas' gradients here, which is after the clipping.
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
        """Returns the average so far; on the first step the weight, which may have been loaded
        since the optimizer was built."""
        if not self.use_ema:
            return None
        average = self._model_variables_moving_average[index]
        now = ops.cast(variable, average.dtype)
        return ops.where(ops.equal(self.iterations, 0), now, ops.convert_to_tensor(average))

    def _bias_corrections(self, dtype):
        """Returns 1 - beta_1^t and the root of 1 - beta_2^t, to the last digits of float32."""
        step = ops.cast(self.iterations + 1, dtype)
        logs = (math.log(beta) if beta else -math.inf for beta in (self.beta_1, self.beta_2))
        first, second = (-ops.expm1(step * log) for log in logs)
        return first, ops.sqrt(second)

    def _update_together(self, grads, variables, learning_rate):
        """Does what `update_step` does, for all variables at once: PyTorch runs one kernel for many
        tensors."""
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
        """Returns a list of (scale, whether decayed, places in `variables`), one for all variables
        that agree in the first two."""
        groups = {}
        for place, (variable, index) in enumerate(zip(variables, indices, strict=True)):
            key = self._scales[index], self._use_weight_decay(variable)
            groups.setdefault(key, []).append(place)
        return [(*key, places) for key, places in groups.items()]

    def _begin_averages(self, weights, indices):
        # asked once and not on each step: on a GPU the answer waits for all work under way
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
        """A list of pairs of a trained variable and its average, in the model's order.

        It is empty before the first update, and where the optimizer has no model yet.

        Raises:
            ValueError: if the optimizer was made without `use_ema`.
        """
        if not self.use_ema:
            raise ValueError(NO_AVERAGES.format(type(self).__name__))
        if not self.built or int(ops.convert_to_numpy(self.iterations)) == 0:
            return []
        pairs = zip(self._trainable_variables, self._model_variables_moving_average, strict=True)
        return list(pairs)


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
        checks.number(f"learning_rate_scales[{name!r}]", scale, above=0)
    return dict(scales) if scales else None


def _shortened(names, most=3):
    names = list(names)
    return ", ".join(map(repr, names[:most])) + (" and others" if len(names) > most else "")
