"""Multiply-adds of a detector and its heads, for `keras_convnext.macs.count_macs`.

Of an image with as many proposals and detections as there may be, as they are counted in the paper
(1000 and 100). What pools, decodes and suppresses boxes does not count.
"""

import keras

from keras_convnext.detection.heads import (
    BOX_SIDE,
    MASK_SIDE,
    BoxHead,
    FeaturePyramid,
    MaskHead,
    RegionProposalHead,
)
from keras_convnext.detection.rcnn import LEVELS, DetectionModel
from keras_convnext.macs import macs_of, rule


@rule(DetectionModel)
def _detector(model, images):
    spec = model.pyramid.compute_output_spec(images)
    maps = [keras.KerasTensor(spec[level].shape) for level in LEVELS]
    shapes = model.neck.compute_output_shape([x.shape for x in maps])
    total = macs_of(model.pyramid, images) + macs_of(model.neck, maps)
    total += sum(macs_of(model.rpn_head, keras.KerasTensor(shape)) for shape in shapes)
    boxes = _pooled(model, model.settings.test_proposals, BOX_SIDE)
    masks = _pooled(model, model.settings.detections, MASK_SIDE)
    total += sum(macs_of(head, boxes) for head in model.box_heads)
    return total + sum(macs_of(head, masks) for head in model.mask_heads)


def _pooled(model, boxes, side):
    return keras.KerasTensor((boxes, side, side, model.neck.channels))


def _of_width(x, channels):
    return keras.KerasTensor((*x.shape[:-1], channels))


def _row(layers, x, channels):
    """Returns the multiply-adds of layers behind one another, each of which has `channels`."""
    total = 0
    for layer in layers:
        total += macs_of(layer, x)
        x = _of_width(x, channels)
    return total


@rule(FeaturePyramid)
def _pyramid(layer, maps):
    pairs = zip(layer.laterals, layer.outputs, maps, strict=True)
    return sum(_row((lateral, output), x, layer.channels) for lateral, output, x in pairs)


@rule(RegionProposalHead)
def _region_proposals(layer, x):
    inner = _of_width(x, layer.channels)
    return macs_of(layer.conv, x) + sum(
        macs_of(last, inner) for last in (layer.classifier, layer.regressor)
    )


@rule(BoxHead)
def _boxes(layer, x):
    total = 0
    for convolution in layer.convolutions:
        total += macs_of(convolution.conv, x)
        x = _of_width(x, layer.channels)
    boxes, height, width, channels = x.shape
    x = keras.KerasTensor((boxes, height * width * channels))
    total += _row(layer.dense, x, layer.units)
    inner = keras.KerasTensor((boxes, layer.units))
    return total + sum(macs_of(last, inner) for last in (layer.classifier, layer.regressor))


@rule(MaskHead)
def _masks(layer, x):
    total = _row((*layer.convolutions, layer.upsample), x, layer.channels)
    boxes, height, width, _ = x.shape
    upsampled = keras.KerasTensor((boxes, 2 * height, 2 * width, layer.channels))
    return total + macs_of(layer.classifier, upsampled)
