"""`predict` and `fit` as users call them: on a folder of photos that Keras reads by `tf.data`.

A step is one pass over the folder, with the reading, decoding and resizing of the JPEG files, and
with what Keras does around its batches. Models normalise in their first layer. The tasks:

- `predict`: the classifier of 1000 classes;
- `fit-head`: a new classifier on features of a frozen base, as Keras' guide to transfer learning
  writes it;
- `fit`: the same with a base that learns too.

`tf.data` does not tune itself: the end of a pass would wait for it, see `untuned`.
"""

from pathlib import Path

import numpy as np

CLASSES = 4
HEIGHT, WIDTH = 375, 500  # usual in ImageNet


def photos(configuration):
    """Returns the folder with the photos of a pass, one folder per class; writes what is missing.

    They are random colours that change slowly over the image, and a little noise: such a file has
    about as many bytes as a photograph of its size.
    """
    from PIL import Image

    folder = Path(configuration.folder) / f"photos-{configuration.images}"
    random = np.random.default_rng(0)
    for number in range(configuration.images):
        path = folder / f"class{number % CLASSES}" / f"{number:04}.jpg"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            colours = Image.fromarray(random.integers(0, 256, (12, 16, 3), "uint8"))
            smooth = np.asarray(colours.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC), "int16")
            noisy = smooth + random.integers(-12, 13, smooth.shape)
            Image.fromarray(noisy.clip(0, 255).astype("uint8")).save(path, quality=90)
    return folder


def step(build, configuration):
    """Returns the step of a task of users.

    Args:
        build: a function with the arguments of `keras.applications` that returns a model.
        configuration: a `Configuration` whose task is one of `USER_TASKS`.
    """
    import keras

    size, batch = (configuration.size, configuration.size), configuration.batch
    data = keras.utils.image_dataset_from_directory(
        photos(configuration), image_size=size, batch_size=batch, shuffle=False, verbose=False
    )
    # not before TensorFlow is there: the trainer sets what it reads of the environment
    from training.data.dataset import untuned

    data = untuned(data)
    if configuration.task == "predict":
        model = build(input_shape=(*size, 3))
        return lambda: model.predict(data, verbose=0)
    model = _with_new_head(build, (*size, 3), frozen=configuration.task == "fit-head")
    model.compile(keras.optimizers.AdamW(), "sparse_categorical_crossentropy")
    return lambda: model.fit(data, verbose=0).history["loss"][0]


def _with_new_head(build, shape, frozen):
    import keras

    base = build(include_top=False, pooling="avg", input_shape=shape)
    base.trainable = not frozen
    inputs = keras.Input(shape)
    features = base(inputs, training=False) if frozen else base(inputs)
    return keras.Model(inputs, keras.layers.Dense(CLASSES, "softmax")(features))
