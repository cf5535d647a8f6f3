"""Finds photos that EXIF turns, whose annotations may be of the turned pixels."""

from keras_convnext.images import open_image, orientation

from .listing import counted, some, spread

LOOKED_AT = 1000  # files, by their first bytes


def notes(paths, annotations, have_sizes=None):
    """Returns a sentence about the images that EXIF turns, in a list; an empty one without any.

    Left out are those that EXIF turns to another size: there the size of the annotations tells
    which pixels they are of. Of many images `LOOKED_AT` are opened, evenly spread.

    Args:
        paths: of the files.
        annotations: what must be of the pixels as they are stored: "masks", "boxes".
        have_sizes: for each file whether the annotations tell a size; `None`: all do.
    """
    found = [
        paths[place]
        for place in spread(len(paths), LOOKED_AT)
        if _may_be_meant_turned(paths[place], have_sizes is None or have_sizes[place])
    ]
    if not found:
        return []
    part = f", of {LOOKED_AT:,} looked at" * (len(paths) > LOOKED_AT)
    return [
        f"Taken as stored{part}: {counted(len(found), 'image')} turned by EXIF, so that "
        f"{annotations} must be of the pixels as stored: {some(found)}"
    ]


def _may_be_meant_turned(path, has_size):
    try:
        with open_image(path) as image:
            told, is_square = orientation(image), image.width == image.height
        return told != 1 and (told < 5 or is_square or not has_size)
    except Exception:  # whatever Pillow raises for a damaged file: reading it says what is wrong
        return False
