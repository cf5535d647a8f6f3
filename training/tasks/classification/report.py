"""The end of a classifier's run: its models, its result, its pictures."""

import dataclasses

from training.data import stream
from training.evaluate.assessment import assess
from training.run import models, pictures, record
from training.run.compiling import channels_of
from training.tasks.classification import building


def finish(run, model, plan, dataset, progress, devices):
    """Writes the models, the pictures and, last, `result.json`, which says that a run is finished.

    The best epoch is the one with the highest validation accuracy. All models return probabilities.

    Returns:
        the content of `result.json`; `None` in the processes that do not write.
    """
    models.use_one_device()
    served = _served(plan.config, dataset)
    models.write_models(run, served, model, plan, progress, devices)
    if not devices.is_chief:
        return None
    with stream.sentences(dataset.validation):
        batches, classes = _batches(plan.config, dataset), len(dataset.class_names)
        outcome = assess(served.predict_on_batch, batches, classes)
    record.write_json(run / record.CLASSES, list(dataset.class_names))
    _draw(run, outcome, plan, dataset, progress)
    result = _result(outcome, progress)
    record.write_json(run / record.RESULT, result)
    return result


def headline(result):
    """Returns what is said first of a result."""
    return f"Validation accuracy {result['accuracy']:.2%}"


def _served(config, dataset):
    config = dataclasses.replace(config, weights=None)  # the trained ones are put in later
    classes = len(dataset.class_names)
    return building.network(config, classes, channels_of(dataset), activation="softmax")


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
