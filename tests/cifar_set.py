"""Sets that TensorFlow Datasets reads as its `cifar10`: of noise, or the images in ../shared/data.

Command: `python -m tests.cifar_set DIR` prepares the whole of CIFAR-10 in DIR, for
`--data_dir DIR` of the trainer, where the images lie in ../shared/data and there is no network.
"""

import importlib.util
import sys
from pathlib import Path

import numpy as np

NAMES = "airplane automobile bird cat deer dog frog horse ship truck".split()
SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


def prepare_noise(data_dir, train, test):
    """Writes `cifar10` with so many images per split into `data_dir`.

    Returns:
        the folder of the prepared set.
    """
    random = np.random.default_rng(0)
    splits = {}
    for split, count in (("train", train), ("test", test)):
        splits[split] = random.integers(0, 256, (count, 32, 32, 3), "uint8"), np.arange(count) % 10
    return prepare(data_dir, splits)


def prepare_real(data_dir):
    """As `prepare_noise`, with all 60,000 images of ../shared/data."""
    specification = importlib.util.spec_from_file_location("load", SHARED / "load.py")
    reader = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(reader)
    reader.A = str(SHARED)
    x_train, y_train, x_test, y_test = reader.cifar10()
    return prepare(data_dir, {"train": (x_train, y_train), "test": (x_test, y_test)})


def prepare(data_dir, splits):
    """Writes `{"train": (images, labels), ...}` as TensorFlow Datasets' own writer does."""
    import tensorflow_datasets as tfds

    builder = tfds.builder("cifar10", data_dir=data_dir)
    builder.info.features["label"].names = NAMES  # as its download does
    Path(builder.data_dir).mkdir(parents=True)
    writer = tfds.core.SequentialWriter(builder.info, max_examples_per_shard=10_000)
    writer.initialize_splits(list(splits))
    for split, (images, labels) in splits.items():
        examples = [
            {"id": f"{split}_{number:05}", "image": image, "label": int(label)}
            for number, (image, label) in enumerate(zip(images, labels, strict=True))
        ]
        writer.add_examples({split: examples})
    writer.close_all()
    return Path(builder.data_dir)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    print(prepare_real(sys.argv[1]))
