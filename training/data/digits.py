"""The handwritten digits that come with scikit-learn."""

from ..run import needs
from .arrays import array_split
from .dataset import Dataset


def digits():
    """Returns the Dataset of 8 x 8 scans: 1437 for training, 360 for validation, stratified.

    The pixels are float32 in [0, 255], not uint8, because there are 17 grey levels, whose steps of
    255 / 16 are no whole numbers.
    Source: UCI Optical Recognition of Handwritten Digits; shipped with scikit-learn.
    """
    needs.check(["sklearn"])
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    scans = load_digits()
    images = scans.images[..., None].astype("float32") * (255 / 16)  # scanned in 17 grey levels
    x_train, x_test, y_train, y_test = train_test_split(
        images, scans.target, test_size=0.2, stratify=scans.target, random_state=0
    )
    names = tuple(str(name) for name in scans.target_names)
    train, validation = array_split("train", x_train, y_train), array_split("test", x_test, y_test)
    return Dataset("digits", names, train, validation)
