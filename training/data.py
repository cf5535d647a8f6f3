"""Datasets by name: each function returns a `Dataset`."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Images and labels, split into training and test.

    Attributes:
        train, test: `(images, labels)`: images `(n, height, width, channels)` float32 in
            [0, 255], labels `(n,)` int64.
        class_names: of the labels, in order.
    """

    train: tuple
    test: tuple
    class_names: tuple


def digits():
    """scikit-learn's handwritten digits: 1437 for training, 360 for the test, stratified.

    Source: UCI Optical Recognition of Handwritten Digits; shipped inside of scikit-learn.
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    scans = load_digits()
    images = scans.images[..., None].astype("float32") * (255 / 16)  # scanned in 17 grey levels
    x_train, x_test, y_train, y_test = train_test_split(
        images, scans.target.astype("int64"), test_size=0.2, stratify=scans.target, random_state=0
    )
    names = tuple(str(name) for name in scans.target_names)
    return Dataset((x_train, y_train), (x_test, y_test), names)


DATASETS = {"digits": digits}


def load(name):
    """-> the Dataset of that name; a ValueError lists the names that exist."""
    if name not in DATASETS:
        raise ValueError(f"`dataset` must be one of {list(DATASETS)}, received {name!r}.")
    return DATASETS[name]()


def one_hot(labels, classes):
    return np.eye(classes, dtype="float32")[labels]
