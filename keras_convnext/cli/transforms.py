"""The transform that the images of a command line go through."""

import dataclasses


def transform_of(arguments, row=None, size=None):
    """-> the row's evaluation, or the authors' where there is no row, changed as asked for.

    Args:
        arguments: the flags `size`, `crop_pct`, `resize` and `interpolation`, or `None` each.
        row: of the registry.
        size: that of the model, where it takes no other.
    """
    size = size or arguments.size
    if row is not None and (size, arguments.crop_pct, arguments.resize) == (None, None, None):
        transform = row.transform()
    else:
        transform = _changed(row, size, arguments.crop_pct, arguments.resize)
    if arguments.interpolation:
        transform = dataclasses.replace(transform, interpolation=arguments.interpolation)
    return transform


def _changed(row, size, crop_pct, resize):
    from keras_convnext.preprocessing import EvalTransform

    size = size or (row.size if row else 224)
    if resize is None:
        usual = row.resize_mode if row else "squash" if size >= 384 else "shortest"
        resize = usual if crop_pct is None else "shortest"
    if crop_pct is None and resize == "shortest":
        crop_pct = _usual_crop(size, row)
    return EvalTransform(size, crop_pct, resize, row.interpolation if row else "bicubic")


def _usual_crop(size, row):
    if row is None:
        return 0.875
    return row.test_crop_pct if size == row.test_size else row.crop_pct


def in_words(transform):
    """-> for example `short side 256, centre crop of 224, bicubic`."""
    how = f"resized to {transform.size} x {transform.size}"
    if transform.resize == "shortest":
        how = f"short side {transform.short_side}, centre crop of {transform.size}"
    return f"{how}, {transform.interpolation}"
