"""Runs when Keras is imported, before or after this package.

Before Keras: a backend is chosen if nobody chose one (`backend_choice.py`). After Keras: our
classes are made known to it, so that `keras.saving.load_model` reads our files after `import
keras_convnext` alone. The modules that define the classes are imported when a file needs them.
"""

import functools
import importlib
import sys

from keras_convnext import backend_choice

# What is registered with Keras, by the module or package that has it.
REGISTERED = {
    "augmentation.train_step": ("DeviceAugmented",),
    "detection.heads": ("BoxHead", "FeaturePyramid", "MaskHead", "RegionProposalHead"),
    "detection.rcnn": ("DetectionModel",),
    "features": ("PyramidModel",),
    "keras_hub": (
        "ConvNeXtBackbone",
        "ConvNeXtImageClassifier",
        "ConvNeXtImageClassifierPreprocessor",
        "ConvNeXtImageConverter",
        "UperNetImageSegmenter",
        "UperNetImageSegmenterPreprocessor",
    ),
    "layers": (
        "Chain",
        "ConvNeXtBlock",
        "ConvNormReLU",
        "DepthwiseConv2D",
        "GlobalResponseNormalization",
        "KernelInitializer",
        "LayerNormalization",
        "LayerScale",
        "PatchConv2D",
        "SimpleNorm",
        "StochasticDepth",
    ),
    "optimization": ("AdamW", "WarmupCosine", "WarmupPolynomial", "WarmupSteps"),
    "pretraining.decoder": ("MaskToken", "MaskedDecoder"),
    "pretraining.models": ("FCMAE",),
    "pretraining.patches": ("RandomMasks",),
    "segmentation.heads": ("AuxiliaryHead", "ChannelDropout", "UperNetHead"),
    "segmentation.losses": ("PixelCrossEntropy",),
    "segmentation.metrics": ("MeanIoU", "PixelAccuracy"),
    "segmentation.models": ("SegmentationModel",),
    "segmentation.resampling": ("AdaptiveAveragePooling", "ResizeTo"),
}
# Models, which the HDF5 format of Keras 2 (`.h5`) looks up by the name of the class alone.
MODELS = {
    "augmentation.train_step": ("DeviceAugmented",),
    "detection.rcnn": ("DetectionModel",),
    "features": ("PyramidModel",),
    "segmentation.models": ("SegmentationModel",),
}
REGISTERED_FUNCTIONS = {"layers.activations": ("gelu", "gelu_tanh")}


def prepare():
    """Makes our classes known to Keras: now, or as soon as it is imported."""
    if "keras" in sys.modules:
        _register()
    else:
        sys.meta_path.insert(0, _WatchForKeras())


class _WatchForKeras:
    """A finder that finds Keras as the others do, and acts before and after it is executed."""

    def find_spec(self, name, path=None, target=None):
        if name != "keras":
            return None
        others = (finder for finder in sys.meta_path if finder is not self)
        specs = (finder.find_spec(name, path, target) for finder in others)
        spec = next((spec for spec in specs if spec is not None), None)
        if spec is not None and spec.loader is not None:
            spec.loader.exec_module = functools.partial(self._execute, spec.loader.exec_module)
        return spec

    def _execute(self, execute, module):
        backend_choice.choose()
        execute(module)
        if self in sys.meta_path:
            sys.meta_path.remove(self)
        _register()


def _register():
    from keras.saving import get_custom_objects, register_keras_serializable

    known = get_custom_objects()  # with ours that are there already, where a module was imported
    for module, names in REGISTERED.items():
        for name in names:
            known.setdefault(f"keras_convnext>{name}", _ClassToImport(module, name))
    for module, names in MODELS.items():
        for name in names:
            known.setdefault(name, _ClassToImport(module, name))
    for module, names in REGISTERED_FUNCTIONS.items():
        for name in names:
            if f"keras_convnext>{name}" not in known:
                function = _function_to_import(module, name)
                register_keras_serializable("keras_convnext", name)(function)


def _function_to_import(module, name):
    """Returns a function of a tensor that does what the one of that name in our module does."""

    def function(x):
        return getattr(importlib.import_module(f"keras_convnext.{module}"), name)(x)

    function.__name__ = function.__qualname__ = name
    return function


class _ClassToImport:
    """Stands for a class of ours until Keras uses it; registering the class then replaces it."""

    def __init__(self, module, name):
        self._module, self._name = f"keras_convnext.{module}", name

    def _get(self):
        return getattr(importlib.import_module(self._module), self._name)

    def __getattr__(self, attribute):
        return getattr(self._get(), attribute)

    def __call__(self, *args, **kwargs):
        return self._get()(*args, **kwargs)

    # KerasHub compares a preset's class with those that its tasks are for
    def __eq__(self, other):
        return other is self or (
            isinstance(other, type) and other.__name__ == self._name and other is self._get()
        )

    __hash__ = object.__hash__

    def __repr__(self):
        return f"<class {self._name} of {self._module}, not imported yet>"
