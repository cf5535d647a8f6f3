"""The end of a classifier's run: its result and its pictures."""

from ...data import stream
from ...evaluate.assessment import assess
from ...run import pictures, record
from . import building


def finish(run, served, plan, dataset, progress):
    """Writes the names of the classes and the pictures, with the model of the best epoch.

    That is the one with the highest validation accuracy. All models return probabilities.

    Returns:
        the task's part of `result.json`.
    """
    with stream.sentences(dataset.validation):
        batches, classes = _batches(plan.config, dataset), len(dataset.class_names)
        outcome = assess(served.predict_on_batch, batches, classes)
    record.write_json(run / record.CLASSES, list(dataset.class_names))
    if outcome.confusion is not None:
        pictures.confusion(outcome, dataset.class_names, run / "confusion.png")
    pictures.mistakes(outcome, dataset.class_names, run / "mistakes.png")
    return {
        "accuracy": outcome.top1,
        "top5_accuracy": outcome.top5,
        "loss": outcome.loss,
        "last_accuracy": progress.history[-1]["val_accuracy"],
    }


def headline(result):
    """Returns what is said first of a result."""
    return f"Validation accuracy {result['accuracy']:.2%}"


def _batches(config, dataset):
    transform = building.evaluation_transform(config, dataset)
    return stream.evaluation_batches(dataset.validation, transform, config.micro_batch)
