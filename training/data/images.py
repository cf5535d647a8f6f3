"""Describes in words what is wrong with an image file."""

from PIL import UnidentifiedImageError

from keras_convnext.images import ImageError, is_turned, load_image, open_image
from keras_convnext.preprocessing import tf_decode

from .dataset import tensorflow


def problem(content):
    """Returns why the content of an image file cannot be decoded, or None. Decodes all of it.

    Both Pillow, which decodes for predictions, and TensorFlow, which decodes for training, are
    tried: they refuse different files. Damage that neither of them notices, such as a changed bit
    that leaves a JPEG valid, is not noticed here either.
    """
    if not content:
        return "the file is empty"
    try:
        image = load_image(content)
    except ImageError as error:
        return _pillows_reason(error)
    if 1 in image.size:
        return f"a side of one pixel: {image.width} x {image.height}"
    return _tensorflows_reason(content)


def _pillows_reason(error):
    cause = error.__cause__
    if cause is None:
        return str(error)
    if isinstance(cause, UnidentifiedImageError):
        return "not an image"
    return str(cause) or type(cause).__name__


def _tensorflows_reason(content):
    tf = tensorflow()
    try:
        tf_decode(content)
    except tf.errors.OpError as error:
        return f"TensorFlow cannot decode it: {error.message.split(' [Op:')[0].split('}} ')[-1]}"
    return None


def notes(content):
    """Returns what is unusual about the content of an image file that can be decoded, a tuple.

    `"CMYK"`: converted to RGB without a colour profile. `"16-bit"`: values above 255 become white.
    `"animated"`: the first frame is used. `"rotated by EXIF"`: turned in a training of
    a classifier on a folder.
    """
    with open_image(content) as image:
        found = {
            "CMYK": image.mode == "CMYK",
            "16-bit": image.mode[0] in "IF",
            "animated": getattr(image, "n_frames", 1) > 1,
            "rotated by EXIF": is_turned(image),
        }
    return tuple(note for note, is_so in found.items() if is_so)
