"""The end of a classifier's run: its result and its pictures."""

from ...data import stream
from ...data.listing import counted
from ...evaluate.assessment import assess
from ...run import pictures, record
from . import building


def finish(run, served, plan, dataset, progress):
    """Writes names of classes, transform of validation and pictures, with the best epoch's model.

    Best is the highest validation accuracy. All models return probabilities.

    Returns:
        the task's part of `result.json`.
    """
    with stream.sentences(dataset.validation):
        batches, classes = _batches(plan.config, dataset), len(dataset.class_names)
        outcome = assess(served.predict_on_batch, batches, classes)
    record.write_json(run / record.CLASSES, list(dataset.class_names))
    record.write_json(run / record.TRANSFORM, building.transform_fields(plan.config, dataset))
    if outcome.confusion is not None:
        pictures.confusion(outcome, dataset.class_names, run / "confusion.png")
    pictures.mistakes(outcome, dataset.class_names, run / "mistakes.png")
    return {
        "accuracy": outcome.top1,
        "top5_accuracy": outcome.top5,
        "loss": outcome.loss,
        "last_accuracy": progress.history[-1]["val_accuracy"],
        "validation_images": outcome.images,
        "commonest_class_images": int(outcome.counts.max()),
    }


def headline(result):
    """Returns what is said first of a result: how good it is, and beside what."""
    images = result["validation_images"]
    return (
        f"Validation accuracy {result['accuracy']:.2%}: right for "
        f"{round(result['accuracy'] * images):,} of {counted(images, 'image')} that were not "
        f"learned; always answering the commonest class would be right for "
        f"{result['commonest_class_images']:,}."
    )


def _batches(config, dataset):
    transform = building.evaluation_transform(config, dataset)
    return stream.evaluation_batches(dataset.validation, transform, config.micro_batch)
