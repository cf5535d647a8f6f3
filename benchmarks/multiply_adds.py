"""The multiply-adds of one image, counted from the variant's row."""


def multiply_adds(architecture, size, classes=1000):
    """Returns the multiply-adds of all convolutions and dense layers in one forward pass.

    The papers call this number FLOPs; as floating-point operations it counts twice. A training
    step is taken as three forward passes: the activations' and the weights' gradients cost one
    each.

    Args:
        architecture: fields of a `keras_convnext.Variant`, a dict.
        size: height and width of the image in pixels.
        classes: outputs of the classifier.
    """
    dims = architecture["dims"]
    side, total = _stem(architecture, size)
    stages = zip(architecture["depths"], dims, architecture["kernel_sizes"], strict=True)
    for stage, (depth, dim, kernel) in enumerate(stages):
        if stage:
            side //= 2
            total += side**2 * 4 * dims[stage - 1] * dim
        total += depth * side**2 * (kernel**2 * dim + 8 * dim**2)
    hidden = architecture["head_hidden"]
    head = [dims[-1], *([hidden] if hidden else []), classes]
    return total + sum(a * b for a, b in zip(head, head[1:], strict=False))


def _stem(architecture, size):
    """Returns the side of the stem's output in pixels, and its multiply-adds."""
    dim, patch = architecture["dims"][0], architecture["stem_stride"]
    if architecture["stem"] == "patch":
        side = size // patch
        return side, side**2 * patch**2 * 3 * dim
    middle = (size + 1) // 2
    side = (middle + 1) // 2
    # the width rounded to a multiple of 8, as timm does
    first = max(8, (dim // 2 + 4) // 8 * 8) if architecture["stem"] == "overlap_tiered" else dim
    return side, middle**2 * 27 * first + side**2 * 9 * first * dim
