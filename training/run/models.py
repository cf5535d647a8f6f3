"""The models that a run leaves, as `.keras` files."""

import keras

from keras_convnext.pretrained.saving import save_keras

from . import best, checkpoint, loop, record


def use_one_device():
    """Ends the sharing of batches: one device is enough for the few that are left."""
    if keras.backend.backend() == "jax":
        keras.distribution.set_distribution(None)


def write_models(run, served, model, plan, progress, devices):
    """Writes the models of a run; `served` has the weights of the best one afterwards.

    `best.keras` has the weights of the best epoch as they were validated (the moving average where
    there is one); `last.keras` and `last_ema.keras` are those of the last step. All processes of a
    run come here, because a strategy needs them all to change a variable; the first one writes.

    Args:
        run: the folder.
        served: what is written, a model on one device with weights like those of `model`.
        model: the trained one.
        plan: a `Plan`.
        progress: a `Progress`.
        devices: a `Distribution`.
    """
    _save(run / "last.keras", served, model, devices.is_chief)
    devices.wait_for_all()  # the first process may still be writing what all must find
    found = best.checkpoint_of_best(run / "checkpoints", progress, plan)
    if plan.config.ema_momentum is not None:
        with loop.averages(model, plan.config):
            _save(run / "last_ema.keras", served, model, devices.is_chief)
    if found is not None:
        checkpoint.restore(found, model)
    elif progress.history:
        progress.best = progress.history[-1]  # the model is in the state of that epoch
    with loop.averages(model, plan.config):
        _save(run / record.BEST, served, model, devices.is_chief)


def _save(path, served, model, writes):
    served.set_weights(model.get_weights())
    if not writes:
        return
    try:
        save_keras(served, path)
    except (OSError, RuntimeError) as error:  # Keras has the one or the other for a full disk
        reason = getattr(error, "strerror", None) or (str(error).splitlines() or ["unknown"])[0]
        raise checkpoint.CheckpointError(
            f"The model {path} could not be written: {reason}. The training is done and its state "
            "is in checkpoints/: free some space or correct the permissions, then resume with "
            "--resume=auto."
        ) from error
