"""What `from_preset` reads: presets of KerasHub, and published or own weights as a preset.

A preset of KerasHub, a folder or a repository that `save_to_preset` has filled, is read by KerasHub
itself. Everything else is a name that `named_weights` knows: its files are read as data, in every
published layout.
"""

import contextlib
import functools
import os
from pathlib import Path

import keras
from keras_hub.src.utils.preset_utils import PresetLoader
from keras_hub.src.utils.python_utils import classproperty

from keras_convnext import named_weights, untrusted
from keras_convnext.errors import first_line
from keras_convnext.layers import NORMS
from keras_convnext.layers.initializers import kernels_will_be_loaded
from keras_convnext.preprocessing import evaluation_transform
from keras_convnext.pretrained import DownloadError, download, registry, resolve

CONFIG, WEIGHTS = "config.json", "model.safetensors"
OF_THE_BACKBONE = ("drop_path_rate", "output_stride", "image_shape", "dtype")


def published(*tasks):
    """Returns a property of a class: the published weights of tasks, as KerasHub lists its own.

    It is `{name: {"metadata": {"description": ..., "params": ..., "path": "convnext"}}}`.
    """

    def presets(cls):
        return {row.name: _described(row) for task in tasks for row in registry.rows(task)}

    return classproperty(presets)


def _described(row):
    description = f"{row.id}, {row.params:,} parameters, licence {row.licence.name}."
    return {"metadata": {"description": description, "params": row.params, "path": "convnext"}}


def load(how, cls, keras_hubs, preset, *args, any_head=False, **kwargs):
    """Returns what `cls.from_preset` returns.

    Args:
        how: the method of `WeightsLoader` that makes it.
        cls: the class.
        keras_hubs: the `from_preset` of KerasHub that `cls` inherits, for KerasHub's own presets.
        preset, *args, **kwargs: what the user gave.
        any_head: whether UperNets are wanted besides ConvNeXts alone.

    Raises:
        ValueError: if no preset has that name, it cannot be read or is of another class.
        DownloadError: (an OSError) if a file could not be fetched.
    """
    if not isinstance(preset, (str, os.PathLike)):
        raise ValueError(f"A preset is a name, a path or an address, received {preset!r}.")
    preset = os.fspath(preset)
    name = _name_of_weights(preset)
    if name is not None:
        loader = WeightsLoader(preset, _known(name, any_head))
        return how(loader, cls, *args, **kwargs)
    with _read_by_keras_hub(preset):
        found = keras_hubs(preset, *args, **kwargs)
    if not isinstance(found, cls):
        raise ValueError(f"{preset} is a preset of {type(found).__name__}, not of {cls.__name__}.")
    return found


def _name_of_weights(preset):
    """Returns the name of the weights that a preset stands for, `None` for one of KerasHub."""
    if os.path.isdir(preset):
        weights, config = Path(preset) / WEIGHTS, Path(preset) / CONFIG
        return None if not weights.is_file() or _is_of_keras(config) else str(weights)
    if not preset.startswith("hf://"):
        return None if "://" in preset else preset
    address = resolve.HUB.fullmatch(preset)
    if address is None or address["file"] or address["revision"]:
        return preset  # which KerasHub would not read
    if named_weights.row_of(preset, any_head=True) is not None:
        return preset
    source = download.HubFile(address["repo"], CONFIG, None, most=untrusted.LARGEST)
    try:
        config = download.fetch([source], name=preset)
    except DownloadError:
        return preset  # perhaps it has weights alone
    return None if _is_of_keras(config) else preset


def _is_of_keras(config):
    """Returns whether a `config.json` is of a class that Keras knows by its name."""
    return "registered_name" in _parsed(config)


def _parsed(config):
    """Returns the dict in a JSON file, an empty one where there is none."""
    try:
        found = untrusted.json_of(untrusted.text_of(config))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _known(name, any_head):
    try:
        row = named_weights.row_of(name, any_head=any_head)
        return row if row is not None else named_weights.weights_of(name, any_head=any_head)
    except ValueError as error:
        raise ValueError(
            f"{error} A preset is such a name, the path of a folder that `save_to_preset` wrote or "
            "of a file of weights, or 'hf://owner/repo'."
        ) from error


@contextlib.contextmanager
def _read_by_keras_hub(preset):
    """Says which preset it was, and what one has, where KerasHub or Keras could not read it."""
    try:
        yield
    except Exception as error:  # of damaged files it may be any
        raise ValueError(
            f"KerasHub cannot read the preset {preset}: {type(error).__name__}: "
            f"{first_line(error)} Needed is what `save_to_preset` writes: {CONFIG} and "
            "model.weights.h5, of a task also task.json, task.weights.h5 and what the "
            "preprocessor needs."
        ) from error


class WeightsLoader(PresetLoader):
    """Makes backbones, tasks and preprocessors of named weights.

    Args:
        preset: what the user called it.
        known: a row of the registry, or `NamedWeights`.
    """

    def __init__(self, preset, known):
        super().__init__(preset, config={})
        self._known = known
        self.row = known if isinstance(known, registry.Row) else known.row
        self.head = known.head

    @functools.cached_property
    def weights(self):
        """The `NamedWeights`, whose file is fetched when it is needed."""
        if self._known is self.row:
            return named_weights.weights_of(self.row.name, any_head=True)
        return self._known

    @property
    def variant(self):
        """The `Variant`."""
        return self.row.architecture() if self.row else self.weights.variant

    @property
    def classes(self):
        """Number of classes; 0 for an encoder, an embedding of images or another kind of model."""
        if self.row is None:
            return self.weights.classes
        return 0 if self.row.label_set == "clip" else self.row.classes

    def get_backbone_kwargs(self, **kwargs):
        given = {name: kwargs.pop(name) for name in OF_THE_BACKBONE if name in kwargs}
        return given, kwargs

    def load_backbone(self, cls, load_weights, **kwargs):
        with kernels_will_be_loaded(load_weights):
            backbone = cls(self.variant, **kwargs)
        if load_weights:
            self.fill_backbone(backbone)
        return backbone

    def fill_backbone(self, backbone):
        # the file of a whole model has the norm before its classifier
        norm = NORMS[self.variant.norm](epsilon=self.variant.epsilon, name="head_norm")
        self.weights.checkpoint.load_into(keras.Model(backbone.input, norm(backbone.output)))

    def load_task(self, cls, load_weights, **kwargs):
        anew = "num_classes" in kwargs  # as KerasHub has it
        backbone_kwargs, kwargs = self.get_backbone_kwargs(**kwargs)
        kwargs = cls._of_weights(self, anew) | kwargs
        if "preprocessor" not in kwargs:
            kwargs["preprocessor"] = self.load_preprocessor(cls.preprocessor_cls)
        with kernels_will_be_loaded(load_weights):
            backbone = cls.backbone_cls(self.variant, **backbone_kwargs)
        with kernels_will_be_loaded(load_weights and not anew):
            task = cls(backbone=backbone, **kwargs)
        if load_weights:
            task._fill(self, anew)
        return task

    def load_preprocessor(self, cls, config_file=None, **kwargs):
        return super().load_preprocessor(cls, **kwargs)

    def load_image_converter(self, cls, **kwargs):
        mean, std = self.variant.mean, self.variant.std
        own = {
            "scale": [1 / (255 * s) for s in std],
            "offset": [-m / s for m, s in zip(mean, std, strict=True)],
        }
        if self.head is None:
            own |= _as_keras_hub_says(evaluation_transform(self.row))
        return cls(**own | kwargs)


def _as_keras_hub_says(transform):
    """Returns the arguments of a `ConvNeXtImageConverter` for an `EvalTransform`."""
    return {
        "image_size": (transform.size, transform.size),
        "crop_to_aspect_ratio": transform.resize == "shortest",
        "crop_pct": transform.crop_pct,
        "resize_size": transform.resize_size,
        "interpolation": transform.interpolation,
    }
