"""Gradients from several batches and replicas: what each backend needs to make one update of them.

An update is made in some steps and not in others; how a step chooses between the two depends on
how the backend traces code.
"""

import keras
from keras import ops

BACKEND = keras.backend.backend()


def update_or_wait(optimizer, condition, update, wait, grads):
    """Calls `update(grads)` if `condition()` is true, else `wait(grads)`, also in traced code.

    Args:
        optimizer: whose variables, and whose model's, the two functions change.
        condition: function without arguments that returns a boolean scalar.
        update, wait: functions of the list of gradients, called for what they do to variables.
        grads: list of tensors.
    """
    CHOICE[BACKEND](optimizer, condition, update, wait, grads)


def summed_over_replicas(grads):
    """Returns the gradients summed over the replicas of `tf.distribute`, if there are several."""
    if BACKEND != "tensorflow":
        return grads
    import tensorflow as tf

    replica = tf.distribute.get_replica_context()
    if replica is None or replica.num_replicas_in_sync == 1:
        return grads
    return replica.all_reduce(tf.distribute.ReduceOp.SUM, list(grads))


def _choose_on_tensorflow(optimizer, condition, update, wait, grads):
    import tensorflow as tf

    if tf.__internal__.distribute.strategy_supports_no_merge_call():
        tf.cond(condition(), lambda: _nothing(update(grads)), lambda: _nothing(wait(grads)))
        return

    # The replicas cannot communicate within a branch, so they take the decision together.
    def across_replicas(strategy, grads):
        def on_each(function):
            strategy.extended.call_for_each_replica(function, args=(grads,))

        tf.cond(condition(), lambda: on_each(update), lambda: on_each(wait))

    tf.distribute.get_replica_context().merge_call(across_replicas, args=(grads,))


def _nothing(_):
    return None


def _choose_on_jax(optimizer, condition, update, wait, grads):
    """Branches cannot have side effects: each returns the values of all variables after it."""
    variables = [*optimizer._trainable_variables, *optimizer.variables]
    values = [variable.value for variable in variables]

    def after(function):
        with keras.StatelessScope(list(zip(variables, values, strict=True))) as scope:
            function(grads)
        return [scope.get_current_value(variable) for variable in variables]

    chosen = ops.cond(condition(), lambda: after(update), lambda: after(wait))
    for variable, value in zip(variables, chosen, strict=True):
        variable.assign(value)


def _choose_eagerly(optimizer, condition, update, wait, grads):
    update(grads) if condition() else wait(grads)


CHOICE = {
    "tensorflow": _choose_on_tensorflow,
    "jax": _choose_on_jax,
    "torch": _choose_eagerly,
}
