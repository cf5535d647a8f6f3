"""Trains a ConvNeXt with `fit()`: `python -m training.train --config digits [--field=value ...]`.

data -> model -> compile -> fit -> record. `KERAS_BACKEND` chooses the backend.
"""

import sys
import time

import keras

from keras_convnext import ConvNeXt
from keras_convnext.pretrained.saving import save_keras
from training import config as configuration
from training import data, record


def build_model(config, dataset):
    return ConvNeXt(
        config.variant,
        input_shape=dataset.train[0].shape[1:],
        classes=len(dataset.class_names),
        drop_path_rate=config.drop_path_rate,
    )


def build_optimizer(config, model, steps_per_epoch):
    """AdamW with warm-up and cosine; weight decay on tensors of rank 2 and more only."""
    warmup = int(config.warmup_epochs * steps_per_epoch)
    schedule = keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0,
        warmup_target=config.learning_rate,
        warmup_steps=warmup,
        decay_steps=config.epochs * steps_per_epoch - warmup,
    )
    optimizer = keras.optimizers.AdamW(
        schedule, weight_decay=config.weight_decay, beta_2=0.999, epsilon=1e-8
    )
    spared = [variable for variable in model.trainable_variables if len(variable.shape) < 2]
    optimizer.exclude_from_weight_decay(var_list=spared)
    return optimizer


def train(config):
    """Runs `config` and returns the folder of its record and the test accuracy."""
    keras.utils.set_random_seed(config.seed)
    dataset = data.load(config.dataset)
    (x, y), (x_test, y_test) = dataset.train, dataset.test
    classes = len(dataset.class_names)
    model = build_model(config, dataset)
    folder = record.new_folder(config.output, config.name)
    print(
        f"{model.name}: {model.count_params():,} parameters, {len(x):,} training and "
        f"{len(x_test):,} test images, {keras.backend.backend()} backend -> {folder}"
    )
    record.write_json(folder / "config.json", record.circumstances(config))
    model.compile(
        build_optimizer(config, model, -(-len(x) // config.batch_size)),
        keras.losses.CategoricalCrossentropy(label_smoothing=config.label_smoothing),
        metrics=["accuracy"],
    )
    start = time.perf_counter()
    history = model.fit(
        x,
        data.one_hot(y, classes),
        batch_size=config.batch_size,
        epochs=config.epochs,
        validation_data=(x_test, data.one_hot(y_test, classes)),
        callbacks=[keras.callbacks.CSVLogger(folder / "log.csv")],
    ).history
    seconds = time.perf_counter() - start

    save_keras(model, folder / "model.keras")
    probabilities = model.predict(x_test, batch_size=config.batch_size, verbose=0)
    accuracy = float((probabilities.argmax(-1) == y_test).mean())
    record.plot_curves(history, folder / "curves.png")
    record.plot_predictions(
        x_test, y_test, probabilities, dataset.class_names, folder / "predictions.png"
    )
    result = {"test_accuracy": accuracy, "training_seconds": round(seconds, 1)}
    record.write_json(folder / "result.json", result)
    return folder, accuracy


def main():
    try:
        folder, accuracy = train(configuration.from_command_line())
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"\nTest accuracy {accuracy:.2%}")
    for name in ("model.keras", "curves.png", "predictions.png", "log.csv", "result.json"):
        print(f"  {folder / name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
