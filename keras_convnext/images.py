"""Any image becomes an RGB image of Pillow. Image files are opened here and nowhere else."""

import functools
import io
import os
import shlex
import warnings
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps

# Pillow chooses the decoder by a file's content. These decoders only decode; others, such as EPS,
# start programs, or are seldom used and seldom tested.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "JPEG2000", "AVIF", "PPM")
SUFFIXES = (
    *(".jpg", ".jpeg", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"),
    *(".ppm", ".pgm", ".pbm", ".jp2", ".avif"),
)
VIDEOS = (".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv", ".3gp", ".ogv")


class ImageError(ValueError):
    """A source that is not a usable image. The message names the source and what is allowed.

    Example:
        from keras_convnext.images import ImageError, load_image
        try:
            load_image(b"no image")
        except ImageError as error:
            print(error)
    """


def load_image(source, upright=False):
    """Returns any image as an RGB `PIL.Image.Image`.

    Pixels are converted as `PIL.Image.Image.convert("RGB")` does it, which is what torchvision's
    default loader and so the reference evaluations do: alpha is dropped and not blended, EXIF
    orientation is ignored unless `upright` (Pillow itself obeys that of TIFF), an animation gives
    its first frame. Grey of more than 8 bits (modes I;16, I, F) is clipped at 255, with a
    UserWarning if that loses something; negative numbers, NaN and fractions of 1 are refused, in
    files as in arrays.

    Args:
        source: one of
            bytes, bytearray or memoryview: the content of an image file in one of `FORMATS`;
            str or path object: the path of such a file;
            `PIL.Image.Image` of any mode (left unchanged);
            array (NumPy, or what converts to it) of shape (H, W), (H, W, 1), (H, W, 3) or
            (H, W, 4), channels grey, RGB or RGBA, dtype uint8, or float with values in [0, 255]
            (rounded to the nearest integer, halves to even). Floats in [0, 1] are refused.
        upright: whether the image is turned as its EXIF says. Phones store a photo as the sensor
            saw it, and write there how the phone was held. Damaged EXIF is ignored.

    Raises:
        ImageError: (a ValueError) missing, unreadable, truncated, without pixels, larger than
            Pillow's limit against decompression bombs, or an array out of the above.
        TypeError: if `source` is none of the above.

    Example:
        import numpy as np
        from keras_convnext.images import load_image
        load_image("photo.jpg", upright=True).mode  # "RGB"
        load_image(np.zeros((40, 50), "uint8")).size  # (50, 40)
    """
    if isinstance(source, Image.Image):
        name = f"PIL image of mode {source.mode} and size {source.size}"
        return _to_rgb(source, name, upright)
    if isinstance(source, (bytes, bytearray, memoryview)):
        return _read(io.BytesIO(source), f"{memoryview(source).nbytes} bytes of data", upright)
    if isinstance(source, (str, os.PathLike)):
        return _read(source, f"{os.fspath(source)!r}", upright)
    if hasattr(source, "__array__"):
        array = np.asarray(source)
        return _from_array(array, f"array of shape {array.shape} and dtype {array.dtype}")
    raise TypeError(
        "An image must be bytes, a path, a PIL image or an array, received "
        f"{type(source).__name__}. For an open file pass `file.read()`."
    )


def open_image(source):
    """Returns the opened image of a file, as `PIL.Image.open`, if it is in one of `FORMATS`.

    Args:
        source: path, or file object, or bytes with the content of a file.

    Raises:
        PIL.UnidentifiedImageError: (an OSError) if it is no image, or in another format.
        OSError: if the file cannot be read.

    Example:
        from keras_convnext.images import open_image
        with open_image("photo.jpg") as image:
            print(image.format, image.size)
    """
    if isinstance(source, (bytes, bytearray, memoryview)):
        source = io.BytesIO(source)
    return Image.open(source, formats=_known_formats())


@functools.cache
def _known_formats():
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)  # an old Pillow has no AVIF


def about_video(path):
    """Returns what to do with a video, a sentence; "" if the path does not end as one of a video.

    Args:
        path: of a file, which is not opened.

    Example:
        from keras_convnext.images import about_video
        about_video("photo.jpg")  # ""
        print(about_video("film.mp4"))
    """
    path = os.fsdecode(path)
    if not path.lower().endswith(VIDEOS):
        return ""
    return (
        f"{path} is a video, and only images are read here. Extract its frames into a folder, for "
        f"example with `mkdir frames` and `ffmpeg -i {shlex.quote(path)} frames/%05d.jpg`, and "
        "name that."
    )


def is_animation(path):
    """Returns whether a file is an image of several frames, of which `load_image` gives the first;
    False if it cannot be read.

    Example:
        from keras_convnext.images import is_animation
        is_animation("photo.jpg")  # False
    """
    try:
        with open_image(path) as image:
            return bool(getattr(image, "is_animated", False))
    except Exception:  # whatever Pillow raises for a damaged file: reading it says what is wrong
        return False


def images_in(folder):
    """Returns the paths of the visible images in a folder and those below, sorted.

    Args:
        folder: its path. Images are recognised by the end of their names, in any case: `SUFFIXES`.

    Example:
        from keras_convnext.images import images_in
        for path in images_in("photos"):
            print(path)
    """
    paths = sorted(path for path in Path(folder).rglob("*") if path.suffix.lower() in SUFFIXES)
    return [path for path in paths if not path.name.startswith(".") and path.is_file()]


def orientation(image):
    """Returns what the EXIF of an opened image says of how it is turned, 1 to 8; 1, as it is
    stored, where it says nothing or is damaged. From 5 on width and height are exchanged.

    Args:
        image: `PIL.Image.Image`, opened and not yet converted.

    Example:
        from keras_convnext.images import open_image, orientation
        with open_image("photo.jpg") as image:
            print(orientation(image))
    """
    try:
        told = image.getexif().get(ExifTags.Base.Orientation, 1)
        return told if told in range(1, 9) else 1
    except Exception:  # metadata may be damaged in any way, and the pixels be sound
        return 1


def is_turned(image):
    """Returns whether the EXIF of an opened image says that it is turned.

    Args:
        image: as of `orientation`.

    Example:
        from keras_convnext.images import is_turned, open_image
        with open_image("photo.jpg") as image:
            print(is_turned(image))
    """
    return orientation(image) != 1


def about_exif(source, size):
    """Returns what to do with an image of another size than it should have, the end of a sentence;
    "" unless it has that size when it is turned as its EXIF says.

    Args:
        source: of the image, as `open_image` takes it.
        size: `(width, height)` that it should have.

    Example:
        from keras_convnext.images import about_exif
        about_exif("photo.jpg", (50, 40))  # ""
    """
    with open_image(source) as image:
        is_exchanged = image.size == (size[1], size[0])
        return "; its EXIF turns it: save it upright" * (is_exchanged and orientation(image) > 4)


def upright_file(content):
    """Returns the content of an image file that is to be decoded without a look at its EXIF.

    Args:
        content: bytes of a file. They are returned as they are, unless EXIF says that the image is
            turned: then it is a PPM file of what `load_image(content, upright=True)` gives. Whoever
            decodes what is no image says so.

    Example:
        from pathlib import Path
        from keras_convnext.images import upright_file
        content = upright_file(Path("photo.jpg").read_bytes())
    """
    try:
        with open_image(content) as image:
            if not is_turned(image):
                return content
        file = io.BytesIO()
        load_image(content, upright=True).save(file, "PPM")  # quickly written and read
        return file.getvalue()
    except Exception:  # as in `_read`
        return content


def _read(file, name, upright):
    # Damaged files make Pillow's decoders raise almost anything (OSError, SyntaxError, IndexError,
    # struct.error, ...): whatever it is, the caller has one thing to catch.
    try:
        with open_image(file) as image:
            return _to_rgb(image, name, upright)
    except ImageError:
        raise
    except Exception as error:
        video = "" if isinstance(file, io.BytesIO) else about_video(file)
        raise ImageError(video) if video else _unreadable(name, error) from error


def _unreadable(name, error):
    return ImageError(
        f"Cannot read an image from {name}: {type(error).__name__}: {error}. Allowed is a complete "
        f"image file in one of the formats {', '.join(_known_formats())}."
    )


def _turned_upright(image):
    try:
        return ImageOps.exif_transpose(image) if is_turned(image) else image
    except Exception:  # as in `orientation`
        return image


def _to_rgb(image, name, upright):
    if 0 in image.size:
        raise ImageError(
            f"{name}: the image has no pixels (width, height = {image.size}); both must be >= 1."
        )
    try:
        image.load()
        image = _turned_upright(image) if upright else image
        clipped = image.mode[0] in "IF" and _check_deep_grey(image, name)
        rgb = _without_transparency(_without_premultiplication(image)).convert("RGB")
    except ImageError:
        raise
    except Exception as error:
        raise _unreadable(name, error) from error
    if clipped:
        _warn_clipped(image, name)
    return rgb


def _without_premultiplication(image):
    # the one mode for which Pillow has no direct way to RGB
    return image.convert("LA") if image.mode == "La" else image


def _without_transparency(image):
    # A palette's transparency does not change the RGB values, but makes `convert` warn. The copy
    # keeps the caller's image as it is.
    if image.mode != "P" or "transparency" not in image.info:
        return image
    image = image.copy()
    del image.info["transparency"]
    return image


def _check_deep_grey(image, name):
    """Returns whether values of a grey image of more than 8 bits are above 255.

    Raises:
        ImageError: if there are values that mean another range than [0, 255].
    """
    if image.mode != "F":
        # `getextrema` knows I, not every byte order of I;16
        low, high = (image.convert("I") if ";" in image.mode else image).getextrema()
        values = np.array([low, high])
    else:
        values = np.asarray(image)
    return _check_range(values, f"{name}: mode {image.mode}") > 255


def _warn_clipped(image, name):
    warnings.warn(
        f"{name}: mode {image.mode} with values above 255, which become white, as in the "
        "reference evaluation. If they span 16 bits, divide them by 257 first.",
        stacklevel=4,
    )


def _from_array(array, name):
    if array.ndim not in (2, 3) or array.shape[2:] not in ((), (1,), (3,), (4,)):
        raise ImageError(
            f"{name}: an image's shape must be (H, W), (H, W, 1), (H, W, 3) or (H, W, 4). "
            "Several images go through `EvalTransform.batch`."
        )
    if 0 in array.shape:
        raise ImageError(f"{name}: the image has no pixels; height and width must be >= 1.")
    array = _uint8(array, name)
    grey = array.ndim == 3 and array.shape[2] == 1
    return Image.fromarray(np.ascontiguousarray(array[..., 0] if grey else array)).convert("RGB")


def _uint8(array, name):
    if array.dtype == np.uint8:
        return array
    if array.dtype.kind != "f":
        raise ImageError(
            f"{name}: the dtype must be uint8, or float16, float32 or float64 with values in "
            "[0, 255]. Convert with `array.astype('uint8')` if the values are in [0, 255]."
        )
    if _check_range(array, name) > 255:
        raise _outside(array, name)
    return np.rint(array).astype(np.uint8)


def _check_range(array, name):
    """Returns the largest value of an array or of a deep grey image.

    Raises:
        ImageError: for NaN, negative values and fractions of 1. As [0, 255] they would be a black
            picture, and nobody means one by them.
    """
    if not np.isfinite(array).all():
        raise ImageError(f"{name}: NaN or infinite values; allowed are finite ones in [0, 255].")
    if array.min() < 0:
        raise _outside(array, name)
    if array.max() <= 1 and (array % 1).any():
        raise ImageError(
            f"{name}: values from {array.min():g} to {array.max():g} look like the range [0, 1], "
            "expected is [0, 255]. Multiply the array by 255."
        )
    return array.max()


def _outside(array, name):
    return ImageError(
        f"{name}: values from {array.min():g} to {array.max():g}, allowed is [0, 255]. "
        "Undo a normalisation, or use `np.clip(array, 0, 255)` after a resize."
    )
