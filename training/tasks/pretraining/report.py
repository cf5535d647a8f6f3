"""A run of pre-training after each epoch and at its end: models, encoder, result, pictures."""

import dataclasses

from keras_convnext.pictures import save_png
from keras_convnext.pretrained.saving import save_keras
from training.data import stream
from training.run import models, pictures, record
from training.run.compiling import channels_of
from training.tasks.pretraining import building

SHOWN = 6  # images in a sheet of reconstructions
SHEETS = "reconstructions"  # folder of those of the epochs


def each_epoch(run, model, plan, dataset, progress):
    """Writes a sheet of reconstructions where one is due: of images of the validation set, always
    with the same patches hidden."""
    if progress.epoch % plan.config.pictures_every and progress.epoch < plan.config.epochs:
        return
    (run / SHEETS).mkdir(exist_ok=True)
    _sheet(model, plan.config, dataset, run / SHEETS / f"epoch_{progress.epoch:04d}.png")


def finish(run, model, plan, dataset, progress, devices):
    """Writes the models, the encoder, the pictures and, last, `result.json`.

    The best epoch is the one with the lowest validation loss. `best.keras` is the whole model,
    `encoder.weights.h5` what is fine-tuned.

    Returns:
        the content of `result.json`; `None` in the processes that do not write.
    """
    models.use_one_device()
    config = dataclasses.replace(plan.config, weights=None)
    served = building.network(config, channels=channels_of(dataset))
    models.write_models(run, served, model, plan, progress, devices)
    if not devices.is_chief:
        return None
    save_keras(served.encoder, run / "encoder.weights.h5")
    average = config.ema_momentum is not None
    pictures.curves(progress.history, run / "curves.png", average, score=None)
    _sheet(served, config, dataset, run / "reconstructions.png")
    result = {
        "loss": progress.best["val_loss"],
        "best_epoch": progress.best["epoch"],
        "last_loss": progress.history[-1]["val_loss"],
        "training_seconds": round(sum(row["seconds"] for row in progress.history), 1),
    }
    record.write_json(run / record.RESULT, result)
    return result


def headline(result):
    """Returns what is said first of a result."""
    return f"Validation loss {result['loss']:.4f}, in epoch {result['best_epoch']}"


def _sheet(model, config, dataset, path):
    count = min(SHOWN, dataset.validation.size)
    with stream.sentences(dataset.validation):
        batches = building.validation_batches(config, dataset, count)
        images = next(batches.take(1).as_numpy_iterator())[0]
    save_png(model.reconstructions(images), path)
