"""A synthetic ImageNet-1K: archives in the official layout, and what TFDS's own builder makes."""

import io
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image


def jpeg(seed, size=(40, 30)):
    """Returns the content of a JPEG file with smooth noise of its own."""
    random = np.random.default_rng(seed)
    small = random.integers(0, 256, (4, 5, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(small).resize(size, Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def write_tar(file, contents):
    """Writes {name: content} as a tar archive into an open file or to a path."""
    where = {"fileobj": file} if hasattr(file, "write") else {"name": file}
    with tarfile.open(mode="w", **where) as tar:
        for name, content in contents.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


def write_archives(folder, classes, train_per_class, validation):
    """`ILSVRC2012_img_train.tar`, of one tar per class, and `ILSVRC2012_img_val.tar`.

    Args:
        folder: gets the two files.
        classes: wnids that have training images.
        train_per_class: number of training images of each.
        validation: number of validation images; their labels are those of the official list.
    """
    inner = {}
    for number, wnid in enumerate(classes):
        buffer = io.BytesIO()
        names = [f"{wnid}_{image}.JPEG" for image in range(train_per_class)]
        write_tar(buffer, {name: jpeg((number, k)) for k, name in enumerate(names)})
        inner[f"{wnid}.tar"] = buffer.getvalue()
    write_tar(Path(folder) / "ILSVRC2012_img_train.tar", inner)
    names = [f"ILSVRC2012_val_{number:08}.JPEG" for number in range(1, validation + 1)]
    images = {name: jpeg((9999, k)) for k, name in enumerate(names)}
    write_tar(Path(folder) / "ILSVRC2012_img_val.tar", images)


def prepare(
    data_dir,
    archives,
    classes=("n01440764", "n01443537", "n02123045"),
    train_per_class=10,
    validation=10,
    shards=None,
    file_format=None,
):
    """Makes the archives in the folder `archives` and TFDS's `imagenet2012` of them in `data_dir`.

    Args:
        shards: files of each split, None for TFDS's own choice.
        file_format: "tfrecord" (None), "array_record" or "parquet".

    Returns:
        the folder of the prepared set.
    """
    import tensorflow_datasets as tfds

    write_archives(archives, classes, train_per_class, validation)
    builder = tfds.builder("imagenet2012", data_dir=data_dir, file_format=file_format)
    builder.download_and_prepare(
        download_config=tfds.download.DownloadConfig(manual_dir=archives, num_shards=shards)
    )
    return Path(builder.data_dir)
