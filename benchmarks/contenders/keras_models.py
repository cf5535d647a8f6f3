"""Our model and keras.applications' model, on the backend of the process.

bfloat16 is the policy `bfloat16` for inference, weights included, as the peers' `.to(bfloat16)`;
for training it is `mixed_bfloat16`, as their autocast.
"""

import functools

from benchmarks.configuration import USER_TASKS, Unsupported
from benchmarks.contenders import device, images, users


def ours(configuration, call=False, remat=False, keep=False):
    import keras_convnext

    if keep:
        keras_convnext.keep_freed_memory()
    _settings(configuration)

    def build(**arguments):
        model = keras_convnext.ConvNeXt(configuration.variant, **arguments)
        if remat:
            keras_convnext.rematerialize(model)
        return model

    return _step(build, configuration, call)


def applications(configuration):
    row = configuration.architecture
    known = (row["stem"], row["stem_stride"], row["norm"], row["activation"], *row["kernel_sizes"])
    if known != ("patch", 4, "layernorm", "gelu", 7, 7, 7, 7) or row["grn"] or row["head_hidden"]:
        raise Unsupported(f"keras.applications has no architecture as {configuration.variant}")
    _settings(configuration)
    # the function behind all of its factories: there is none for the small variants
    from keras.src.applications.convnext import ConvNeXt

    return _step(functools.partial(ConvNeXt, row["depths"], row["dims"]), configuration)


def _settings(configuration):
    import keras

    if configuration.dtype == "bfloat16":
        predicts = configuration.task in ("inference", "predict")
        keras.config.set_dtype_policy("bfloat16" if predicts else "mixed_bfloat16")
    device.set_precision(configuration.dtype)


def _step(build, configuration, call=False):
    """Returns the step, given a function with the arguments of `keras.applications`."""
    if configuration.task in USER_TASKS:
        return users.step(build, configuration)
    import keras

    model = build(
        include_preprocessing=False,
        input_shape=(configuration.size, configuration.size, 3),
        classifier_activation=None,
    )
    x, y = images.batch(configuration)
    if configuration.on_device:
        x, y = keras.ops.convert_to_tensor(x), keras.ops.convert_to_tensor(y)
    if configuration.task == "training":
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.AdamW(), loss)
        return functools.partial(model.train_on_batch, x, y)
    if call:
        return _calls(model, x)
    return functools.partial(model.predict_on_batch, x)


def _calls(model, x):
    """Returns a step that calls the model; on PyTorch, as its users do, without gradients."""
    import keras

    step = lambda: keras.ops.convert_to_numpy(model(x))  # noqa: E731
    if keras.backend.backend() == "torch":
        import torch

        return torch.inference_mode()(step)
    return step
