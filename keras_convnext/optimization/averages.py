"""Moving averages of the weights in the model: to evaluate, to predict, and to save what they give.

`AdamW(..., use_ema=True)` keeps the averages; here they take the place of the weights for a while.
"""

import contextlib

import keras
from keras import ops

from keras_convnext.optimization.adamw import NO_AVERAGES, AdamW


@contextlib.contextmanager
def averaged_weights(model):
    """Within `with averaged_weights(model):` the model has the averages for its weights.

    For evaluating, predicting, or saving what the averages give. The weights of the training are
    back afterwards, to the bit, also after an exception. Before the first update the averages are
    the weights. Weights that are not trained (frozen layers, statistics of BatchNormalization) stay
    as they are. Do not train inside: the result would be dropped with the averages' copy.

    Args:
        model: compiled with `keras_convnext.AdamW(..., use_ema=True)`, also where
            `keras.optimizers.LossScaleOptimizer` is around it.

    Raises:
        ValueError: if the model is not compiled, or its optimizer keeps no averages.

    Example:
        import keras
        from keras_convnext import AdamW, averaged_weights
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
        model.compile(AdamW(1e-3, use_ema=True), "mse")
        with averaged_weights(model):
            model.save("averages.keras")
    """
    restore = _put_averages_in(model)
    try:
        yield model
    finally:
        restore()


def _put_averages_in(model):
    """Gives the model the averages, and returns a function that puts the weights back."""
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
    if keras.backend.backend() == "jax":
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
    """Validates, saves and predicts with the averages of the weights; trains on with the weights.

    For `fit(..., callbacks=[AverageWeights(), ...])`, `evaluate()` and `predict()` of a model
    compiled with `keras_convnext.AdamW(..., use_ema=True)`.

    From the start of a validation to the end of its epoch the model has the averages, so that what
    was measured is what other callbacks keep, in whatever order they are listed: the file of
    `ModelCheckpoint(save_best_only=True)` and the weights that
    `EarlyStopping(restore_best_weights=True)` restores are those that `val_loss` was reported for.
    The weights of the training are back, to the bit, before the next epoch begins and when `fit()`
    ends (unless EarlyStopping restores others then). In epochs without validation the model keeps
    its weights throughout. (Keras' SwapEMAWeights adds and subtracts on TensorFlow, which rounds.)

    A training that is to be resumed, as `keras.callbacks.BackupAndRestore` does it, must save the
    weights and not the averages: pass `until_epoch_end=False`, and save the averages with
    `averaged_weights`.

    If a validation is cut short by an exception, `restore()` puts the weights back; so does the
    next `fit`, `evaluate` or `predict` with this callback.

    Args:
        until_epoch_end: `False`: the weights are back as soon as a validation ends, and all other
            callbacks meet them at the end of an epoch.

    Raises:
        ValueError: at the start, if the model's optimizer keeps no averages.

    Example:
        import keras, numpy as np
        from keras_convnext import AdamW, AverageWeights
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
        model.compile(AdamW(1e-3, use_ema=True), "mse")
        x, y = np.ones((8, 4)), np.ones((8, 1))
        model.fit(x, y, validation_data=(x, y), callbacks=[AverageWeights()], verbose=0)
    """

    def __init__(self, until_epoch_end=True):
        super().__init__()
        self.until_epoch_end = until_epoch_end
        self._in_fit = False
        self._restore = None

    def set_model(self, model):
        super().set_model(model)
        self._in_fit = False  # a fit, evaluate or predict begins; only fit says more

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
        optimizer = _averaging_optimizer(self.model)
        optimizer.averages  # noqa: B018 - raises where there are none
        # What EarlyStopping restores in its on_train_end must not be replaced by ours.
        optimizer.before_train_end = self._end_fit
        self._in_fit = True

    def _end_fit(self):
        self._in_fit = False
        self.restore()

    def on_epoch_begin(self, epoch, logs=None):
        self.restore()

    def on_test_begin(self, logs=None):
        self._put_in()

    def on_test_end(self, logs=None):
        if not (self._in_fit and self.until_epoch_end):
            self.restore()

    def on_predict_begin(self, logs=None):
        self._put_in()

    def on_predict_end(self, logs=None):
        self.restore()
