"""The masked autoencoder as its authors save it: an encoder of sparse layers, a dense decoder.

A sparse kernel is (k * k, in, out), or (k * k, channels) for a depthwise one, with the place in the
window as column * k + row. Its biases, and the weights of GRN, are (1, channels).
"""

import re

import numpy as np

from keras_convnext.pretrained.files.tensors import Tensor

BLOCKS = 16  # of a decoder, at most; the paper tries up to 12
PARTS = ("dwconv", "norm", "pwconv1", "grn", "pwconv2")
# Our modules of the decoder -> theirs.
DECODER = {f"decoder/{name}": name for name in ("proj", "mask_token", "pred")} | {
    f"decoder/block{n}/{part}": f"decoder.{n}.{part}" for n in range(BLOCKS) for part in PARTS
}
OUR_DECODER = r"decoder/(proj|mask_token|pred|block\d+)/.+"  # in a file of a whole model of ours
# A module of the encoder, and what their sparse one has in its place; the stem is dense.
SPARSE = (
    (r"(downsample_layers\.[1-9]\d*\.0|stages\.\d+\.\d+\.norm)\.", r"\1.ln."),
    (r"(stages\.\d+\.\d+\.pwconv[12])\.", r"\1.linear."),
    (r"(downsample_layers\.[1-9]\d*\.1|stages\.\d+\.\d+\.dwconv)\.weight", r"\1.kernel"),
)
ROWS = (
    r"encoder\.(downsample_layers\.[1-9]\d*\.1|stages\.\d+\.\d+\.(dwconv|grn))"
    r"\.(bias|gamma|beta)"
)


def dense_from_sparse(tensors):
    """Returns the tensors of the sparse encoder with the names and axes of the dense one."""
    return {
        re.sub(r"\.(ln|linear)\.", ".", name).replace(".kernel", ".weight"): (
            _dense_kernel(tensor) if name.endswith(".kernel") else tensor
        )
        for name, tensor in tensors.items()
    }


def _dense_kernel(tensor):
    places, channels = tensor.shape[0], tensor.shape[1:]
    side = round(places**0.5)
    if side * side != places or len(channels) not in (1, 2):
        return tensor  # its shape will be reported
    shape = (*reversed(channels), *((1,) * (2 - len(channels))), side, side)

    def read():
        kernel = tensor.numpy().reshape(side, side, *channels)  # width, height, [in,] channels
        return kernel.transpose(*range(len(channels) + 1, 1, -1), 1, 0).reshape(shape)

    return Tensor(shape, "float32", read)


def sparse_from_dense(arrays):
    """Returns `{name: array}` of the sparse encoder and the dense decoder.

    Args:
        arrays: `{name: array}` in the authors' dense layout, the encoder's names behind
            `"encoder."`.
    """
    return dict(_sparse(name, array) for name, array in arrays.items())


def _sparse(name, array):
    if name == "mask_token":
        return name, array.reshape(1, -1, 1, 1)
    if re.match(r"(proj|pred)\.weight", name):
        return name, array[..., None, None]
    if re.fullmatch(r"decoder\.\d+\.grn\.(gamma|beta)", name):
        return name, array.reshape(1, 1, 1, -1)
    if re.fullmatch(ROWS, name):
        return name, array.reshape(1, -1)
    if not name.startswith("encoder."):
        return name, array
    for pattern, theirs in SPARSE:
        name = re.sub(pattern, theirs, name)
    return name, _sparse_kernel(array) if name.endswith(".kernel") else array


def _sparse_kernel(array):
    """Returns a dense kernel (out, in, height, width) as (width * height, [in,] out)."""
    kernel = array.transpose(3, 2, 1, 0)
    kernel = kernel.reshape(-1, *kernel.shape[2:])
    return np.ascontiguousarray(kernel[:, 0] if kernel.shape[1] == 1 else kernel)
