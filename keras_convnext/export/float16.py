"""ONNX in float16: half the size, for accelerators that compute in it.

Input and outputs keep their dtype. What float16 cannot hold stays in float32: the first
convolution, whose weights include the division by the images' deviation, and sums of squares in
norms.
"""

from keras_convnext.export.packages import need

SUMS = ("ReduceSumSquare", "Sqrt", "Div", "Sub", "Add", "ReduceMean")  # of GRN and SimpleNorm
NORMS = ("grn", "norm", "head_norm")  # the layers that have them, by name


def in_float16(model):
    """Returns an `onnx.ModelProto` that computes in float16.

    Raises:
        MissingPackageError: (an ImportError) without the package onnxruntime, which converts.
    """
    float16 = need("onnxruntime.transformers.float16", "An ONNX file in float16")
    wide = [*_until_first_convolution(model.graph.node), *_sums(model.graph.node)]
    found = float16.convert_float_to_float16(model, keep_io_types=True, node_block_list=wide)
    ordered = need("onnxruntime.transformers.onnx_model", "An ONNX file in float16").OnnxModel(
        found
    )
    ordered.topological_sort(is_deterministic=True)  # the casts were added at the end
    return ordered.model


def _until_first_convolution(nodes):
    kinds = [node.op_type for node in nodes]
    end = kinds.index("Conv") + 1 if "Conv" in kinds else 0
    return [node.name for node in nodes[:end]]


def _sums(nodes):
    parts = ((node, node.name.split("/")) for node in nodes)
    return [n.name for n, path in parts if n.op_type in SUMS and set(path[:-1]) & set(NORMS)]
