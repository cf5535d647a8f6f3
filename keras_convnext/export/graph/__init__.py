"""A Keras model becomes an ONNX graph: rules for its layers, and the graph that they write into."""

from keras_convnext.export.graph import (  # noqa: F401  the rules
    detectors,
    heads,
    operations,
    own_layers,
    stock_layers,
)
from keras_convnext.export.graph.builder import Graph, Tensor
from keras_convnext.export.graph.rules import ExportError, write, write_here

__all__ = ["ExportError", "Graph", "Tensor", "write", "write_here"]
