"""Pictures of what a model looks at: maps over images, receptive fields, sheets of kernels.

from keras_convnext import interpret, pictures

maps = interpret.grad_cam(model, images)
pictures.save_png(pictures.overlay(images[0], maps[0]), "grad_cam.png")
"""

import numpy as np
from PIL import Image

from keras_convnext.atomic import replacing

GAP = 2  # pixels between the kernels of a sheet
DECADES = 4  # of an effective receptive field that a picture shows
# (value, red, green, blue): dark where little is, light where much is
HEAT = (
    (0.0, 0, 0, 0),
    (0.3, 90, 20, 110),
    (0.6, 220, 60, 50),
    (0.85, 255, 165, 20),
    (1, 255, 250, 190),
)
SIGNED = ((-1.0, 30, 70, 170), (0, 255, 255, 255), (1, 180, 20, 40))


def overlay(image, heat, opacity=0.65):
    """Returns an image with a map over it, coloured where the map is high.

    Args:
        image: `(height, width, channels)` of 1 or 3 channels, or `(height, width)`, in [0, 255].
        heat: `(height', width')` in [0, 1]; it is resized to the image.
        opacity: of the colour where `heat` is 1, in [0, 1].

    Returns:
        uint8 `(height, width, 3)`.

    Example:
        import numpy as np
        from keras_convnext.pictures import overlay, save_png
        image, heat = np.full((40, 50, 3), 128, "uint8"), np.eye(7)
        save_png(overlay(image, heat), "heat.png")
    """
    image = _rgb(image).astype("float64")
    size = image.shape[1], image.shape[0]
    heat = Image.fromarray(np.asarray(heat, "float32")).resize(size, Image.Resampling.BICUBIC)
    heat = np.clip(np.asarray(heat), 0, 1)
    alpha = opacity * heat[..., None]
    return np.rint((1 - alpha) * image + alpha * colours(heat)).astype("uint8")


def colours(values):
    """Returns values as colours from dark to light.

    Args:
        values: `(height, width)` in [0, 1].

    Returns:
        uint8 `(height, width, 3)`.

    Example:
        import numpy as np
        from keras_convnext.pictures import colours
        colours(np.array([[0.0, 1.0]]))  # [[[0, 0, 0], [255, 250, 190]]]
    """
    return _interpolated(values, HEAT)


def field_picture(field):
    """Returns an effective receptive field in colours, on a logarithmic scale over four decades.

    Args:
        field: `(height, width)` in [0, 1].

    Returns:
        uint8 `(height, width, 3)`.

    Example:
        import numpy as np
        from keras_convnext.pictures import field_picture
        field_picture(np.eye(32)).shape  # (32, 32, 3)
    """
    logarithm = np.log10(np.maximum(field, 10.0**-DECADES))
    return colours(1 + logarithm / DECADES)


def kernel_sheet(kernels, columns=None, scale=4):
    """Returns kernels side by side, red where positive, blue where negative.

    Each kernel is scaled by its own largest magnitude.

    Args:
        kernels: `(n, side, side)`.
        columns: of the sheet; `None`: about as many as rows.
        scale: pixels per number.

    Returns:
        uint8 `(height, width, 3)`.

    Example:
        from keras_convnext import ConvNeXtAtto, interpret
        from keras_convnext.pictures import kernel_sheet, save_png
        kernels = interpret.depthwise_kernels(ConvNeXtAtto(weights=None))
        save_png(kernel_sheet(kernels), "kernels.png")
    """
    kernels = np.asarray(kernels)
    count, side, _ = kernels.shape
    columns = min(columns or int(np.ceil(count**0.5)), count)
    rows = -(-count // columns)
    cell = side * scale + GAP
    sheet = np.full((rows * columns, cell, cell, 3), 60, "uint8")
    for place, kernel in zip(sheet, kernels, strict=False):
        part = _interpolated(kernel / (np.abs(kernel).max() or 1), SIGNED)
        place[:-GAP, :-GAP] = part.repeat(scale, 0).repeat(scale, 1)
    sheet = sheet.reshape(rows, columns, cell, cell, 3).transpose(0, 2, 1, 3, 4)
    return sheet.reshape(rows * cell, columns * cell, 3)


def side_by_side(*pictures, least=256):
    """Returns pictures of one height in a row, small ones enlarged by whole numbers.

    Args:
        *pictures: as `image` in `overlay`, all of one size.
        least: height in pixels up to which they are enlarged.

    Returns:
        uint8 `(height, width, 3)`.

    Example:
        import numpy as np
        from keras_convnext.pictures import side_by_side
        photo, heat = np.zeros((64, 64, 3), "uint8"), np.full((64, 64), 255)
        side_by_side(photo, heat).shape  # (256, 516, 3)
    """
    times = max(1, -(-least // len(pictures[0])))
    parts = [_rgb(picture).repeat(times, 0).repeat(times, 1) for picture in pictures]
    gap = np.full((len(parts[0]), 4, 3), 255, "uint8")
    return np.concatenate([piece for part in parts for piece in (part, gap)][:-1], axis=1)


def save_png(picture, path):
    """Writes a picture as a PNG; the file at `path` is replaced as a whole.

    Args:
        picture: uint8 `(height, width, 3)` or `(height, width)`.
        path: ends in `.png`.

    Raises:
        ValueError: if `path` ends otherwise.
        FileNotFoundError: if its folder does not exist.

    Example:
        import numpy as np
        from keras_convnext.pictures import save_png
        save_png(np.zeros((40, 50, 3), "uint8"), "black.png")
    """
    if not str(path).lower().endswith(".png"):
        raise ValueError(f"A picture's name must end in .png, received {str(path)!r}.")
    with replacing(path) as draft:
        Image.fromarray(np.ascontiguousarray(picture, "uint8")).save(draft)


def _rgb(image):
    image = np.clip(np.rint(np.asarray(image, "float64")), 0, 255).astype("uint8")
    image = image[..., None] if image.ndim == 2 else image
    return np.repeat(image, 3, -1) if image.shape[-1] == 1 else image


def _interpolated(values, stops):
    places, *channels = zip(*stops, strict=True)
    parts = [np.interp(values, places, channel) for channel in channels]
    return np.rint(np.stack(parts, -1)).astype("uint8")
