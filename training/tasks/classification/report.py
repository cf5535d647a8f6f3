"""The end of a run: its models as `.keras` files, its result, its pictures."""

import dataclasses

import keras

from keras_convnext.pretrained.saving import save_keras
from training.data import stream
from training.evaluate.assessment import assess
from training.run import checkpoint, loop, pictures, record
from training.tasks.classification import building


def finish(run, model, plan, dataset, progress, devices):
    """Writes the models, the pictures and, last, `result.json`, which says that a run is finished.

    `best.keras` has the weights of the epoch with the highest validation accuracy, as they were
    validated (the moving average where there is one); `last.keras` and `last_ema.keras` are those
    of the last step. All return probabilities. All processes of a run come here, because a
    strategy needs them all to change a variable; the first one writes.

    Returns:
        the content of `result.json`; `None` in the processes that do not write.
    """
    use_one_device()
    served = _served(plan.config, dataset)
    write_models(run, served, model, plan, progress, devices)
    if not devices.is_chief:
        return None
    with stream.sentences(dataset.validation):
        outcome = assess(served, _batches(plan.config, dataset), len(dataset.class_names))
    record.write_json(run / record.CLASSES, list(dataset.class_names))
    _draw(run, outcome, plan, dataset, progress)
    result = _result(outcome, progress)
    record.write_json(run / record.RESULT, result)
    return result


def use_one_device():
    """One device is enough for a few batches, whatever the run was shared by."""
    if keras.backend.backend() == "jax":
        keras.distribution.set_distribution(None)


def write_models(run, served, model, plan, progress, devices):
    """Writes the models that `finish` describes; `served` has the weights of the best afterwards.

    Args:
        run: the folder.
        served: what is written, a model on one device with weights like those of `model`.
        model: the trained one.
    """
    _save(run / "last.keras", served, model, devices.is_chief)
    if plan.config.ema_momentum is not None:
        with loop.averages(model, plan.config):
            _save(run / "last_ema.keras", served, model, devices.is_chief)
    checkpoint.restore(run / "checkpoints" / f"step-{progress.best['step']:08d}", model)
    with loop.averages(model, plan.config):
        _save(run / "best.keras", served, model, devices.is_chief)


def _served(config, dataset):
    config = dataclasses.replace(config, weights=None)  # the trained ones are put in below
    classes = len(dataset.class_names)
    return building.network(config, building.channels_of(dataset), classes, activation="softmax")


def _save(path, served, model, writes):
    served.set_weights(model.get_weights())
    if writes:
        save_keras(served, path)


def _batches(config, dataset):
    transform = building.evaluation_transform(config, dataset)
    return stream.evaluation_batches(dataset.validation, transform, config.micro_batch)


def _draw(run, outcome, plan, dataset, progress):
    average = plan.config.ema_momentum is not None
    pictures.curves(progress.history, run / "curves.png", average=average)
    if outcome.confusion is not None:
        pictures.confusion(outcome, dataset.class_names, run / "confusion.png")
    pictures.mistakes(outcome, dataset.class_names, run / "mistakes.png")


def _result(outcome, progress):
    return {
        "accuracy": outcome.top1,
        "top5_accuracy": outcome.top5,
        "loss": outcome.loss,
        "best_epoch": progress.best["epoch"],
        "last_accuracy": progress.history[-1]["val_accuracy"],
        "training_seconds": round(sum(row["seconds"] for row in progress.history), 1),
    }
