"""A run of pre-training after each epoch and at its end: encoder, result, pictures."""

from keras_convnext.pictures import save_png
from keras_convnext.pretrained.saving import save_keras

from ...data import stream
from . import building

SHOWN = 6  # images in a sheet of reconstructions
SHEETS = "reconstructions"  # folder of those of the epochs


def each_epoch(run, model, plan, dataset, progress):
    """Writes a sheet of reconstructions where one is due: of images of the validation set, always
    with the same patches hidden."""
    if progress.epoch % plan.config.pictures_every and progress.epoch < plan.config.epochs:
        return
    (run / SHEETS).mkdir(exist_ok=True)
    _sheet(model, plan.config, dataset, run / SHEETS / f"epoch_{progress.epoch:04d}.png")


def finish(run, served, plan, dataset, progress):
    """Writes the encoder and the reconstructions.

    The best epoch is the one with the lowest validation loss. `best.keras` is the whole model,
    `encoder.weights.h5` what is fine-tuned.

    Returns:
        the task's part of `result.json`.
    """
    save_keras(served.encoder, run / "encoder.weights.h5")
    _sheet(served, plan.config, dataset, run / "reconstructions.png")
    return {"loss": progress.best["val_loss"], "last_loss": progress.history[-1]["val_loss"]}


def headline(result):
    """Returns what is said first of a result."""
    return f"Validation loss {result['loss']:.4f}, in epoch {result['best_epoch']}"


def _sheet(model, config, dataset, path):
    count = min(SHOWN, dataset.validation.size)
    with stream.sentences(dataset.validation):
        batches = building.validation_batches(config, dataset, count)
        images = next(batches.take(1).as_numpy_iterator())[0]
    save_png(model.reconstructions(images), path)
