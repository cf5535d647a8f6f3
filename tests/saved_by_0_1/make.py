"""Makes the files of this folder. They were made by version 0.1.0 and are not made again: what they
show is that later versions load them.

    pip install keras-convnext==0.1.0 && python tests/saved_by_0_1/make.py
"""

import pathlib
import tempfile
import zipfile

import keras
import numpy as np

import keras_convnext as kc
from keras_convnext.segmentation import UperNet

FOLDER = pathlib.Path(__file__).parent
DIMS = (4, 8, 12, 16)
IMAGES = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3)).astype("uint8")
ALL = {"input_shape": (32, 32, 3)}


def v1():
    """A stage of two blocks, layer scale, stochastic depth, a classifier."""
    row = kc.Variant("v1", (1, 1, 2, 1), DIMS)
    return kc.ConvNeXt(row, classes=3, drop_path_rate=0.1, **ALL)


def v2():
    """GRN, no layer scale; pooled features; dilated last stage."""
    row = kc.Variant("v2", (1, 2), DIMS[:2], layer_scale=None, grn=True)
    return kc.ConvNeXt(row, include_top=False, pooling="avg", **ALL)


def overlap():
    """Two convolutions in the stem, SimpleNorm, SiLU, a hidden layer in the head."""
    fields = {"stem": "overlap_act", "norm": "simplenorm", "activation": "silu"}
    row = kc.Variant("overlap", (1, 1), DIMS[:2], (5, 3), head_hidden=6, **fields)
    return kc.ConvNeXt(row, classes=3, classifier_activation=None, **ALL)


def upernet():
    row = kc.Variant("tiny", (1, 1, 1, 1), DIMS)
    return UperNet(row, classes=3, channels=4, auxiliary_channels=4, **ALL)


def roadmap():
    """BatchNormalization, and stochastic depth as a layer of the model."""
    end = kc.Variant("end", (1, 1), DIMS[:2])
    regime = kc.roadmap.Regime("small", (1, 1), 4, end)
    return kc.roadmap.roadmap("depthwise", regime, classes=3, drop_path_rate=0.1, **ALL)


def fine_tuned():
    """Stem and first stage are frozen; one step of AdamW was made, whose slots are in the file."""
    row = kc.Variant("fine_tuned", (1, 1), DIMS[:2])
    model = kc.ConvNeXt(row, classes=3, **ALL)
    model.compile(kc.fine_tune(model, 10, 1e-2, freeze=1), "sparse_categorical_crossentropy")
    model.fit(np.concatenate([IMAGES, IMAGES[:, ::-1]]), np.array([0, 2]), verbose=0)
    return model


def nested():
    """A ConvNeXt as one layer of another model, frozen."""
    row = kc.Variant("nested", (1, 1), DIMS[:2])
    backbone = kc.ConvNeXt(row, include_top=False, pooling="max", **ALL)
    backbone.trainable = False
    return keras.Sequential([keras.Input((32, 32, 3)), backbone, keras.layers.Dense(2, name="top")])


def randomise(model):
    """Weights that all show in the output."""
    random = np.random.default_rng(1)
    for weight in model.weights:
        if "seed_generator" in weight.path or "preprocessing" in weight.path:
            continue
        values = 0.3 * random.standard_normal(weight.shape).astype("float32")
        positive = weight.path.endswith(("gamma", "variance"))
        weight.assign(1 + abs(values) if positive else values)
    return model


def save(archive, outputs):
    """Adds the files of each model to an archive, as HDF5 is mostly zeros, its output to a dict."""
    for make in (v1, v2, overlap, upernet, roadmap, fine_tuned, nested):
        keras.utils.set_random_seed(0)
        model, name = make(), make.__name__
        if make is not fine_tuned:
            randomise(model)
        with tempfile.TemporaryDirectory() as folder:
            for path in (pathlib.Path(folder, name + end) for end in (".keras", ".weights.h5")):
                (model.save if path.suffix == ".keras" else model.save_weights)(path)
                archive.write(path, path.name)
        outputs[name] = keras.ops.convert_to_numpy(model(IMAGES))
        if make is fine_tuned:
            outputs["trainable"] = [weight.path for weight in model.trainable_weights]
            for variable in model.optimizer.variables:
                outputs[f"optimizer/{variable.path}"] = keras.ops.convert_to_numpy(variable)


if __name__ == "__main__":
    arrays = {"images": IMAGES}
    with zipfile.ZipFile(FOLDER / "files.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=9) as file:
        save(file, arrays)
    np.savez_compressed(FOLDER / "outputs.npz", **arrays)
