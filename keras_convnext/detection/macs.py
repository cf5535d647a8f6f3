"""Multiply-adds of the heads of a detector, for `keras_convnext.macs.count_macs`."""

import keras

from keras_convnext.detection.heads import BoxHead, FeaturePyramid, MaskHead, RegionProposalHead
from keras_convnext.macs import macs_of, rule


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
