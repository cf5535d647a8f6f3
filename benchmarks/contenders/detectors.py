"""Detectors, and the operations that only they have, of this library and of torchvision.

Weights are random, no score is too low, so that each has as many proposals and detections as its
numbers allow: the work is that of a photograph full of objects. Inference takes numpy and returns
numpy; masks are left at 28 x 28.
"""

import dataclasses
import functools

import numpy as np

from benchmarks.configuration import Unsupported

CHANNELS, STRIDES = 256, (4, 8, 16, 32)
MULTIPLE = 32


def _canvas(case):
    """Returns (height, width) of what the models see: multiples of 32."""
    return tuple(-(-side // MULTIPLE) * MULTIPLE for side in (case.height, case.width))


def _photos(case):
    random = np.random.default_rng(0)
    return random.uniform(0, 255, (case.batch, *_canvas(case), 3)).astype("float32")


def ours(case, family):
    from keras_convnext import detection

    build = {"mask_rcnn": detection.MaskRCNN, "cascade": detection.CascadeMaskRCNN}[family]
    rows = {"mask_rcnn": detection.MASK_RCNN, "cascade": detection.CASCADE_MASK_RCNN}
    settings = dataclasses.replace(
        rows[family],
        test_candidates=case.boxes,
        test_proposals=case.boxes,
        score_threshold=0.0,
        detections=case.detections,
    )
    model = build(case.variant, settings=settings)
    shape = np.array([[case.height, case.width]] * case.batch, "float32")
    inputs = {"images": _photos(case), "image_shape": shape}
    return functools.partial(model.predict_on_batch, inputs)


def torchvision(case, family):
    if family != "mask_rcnn":
        raise Unsupported("torchvision has no Cascade R-CNN")
    if case.variant != "convnext_tiny":
        raise Unsupported(f"the peer is built of ConvNeXt-T, not of {case.variant}")
    import torch
    from torchvision.models.detection import MaskRCNN
    from torchvision.ops import MultiScaleRoIAlign

    levels = [str(level) for level in range(len(STRIDES))]
    model = MaskRCNN(
        _pyramid(),
        81,
        min_size=min(case.height, case.width),
        max_size=max(case.height, case.width),
        box_roi_pool=MultiScaleRoIAlign(levels, 7, sampling_ratio=0),
        mask_roi_pool=MultiScaleRoIAlign(levels, 14, sampling_ratio=0),
        rpn_pre_nms_top_n_test=case.boxes,
        rpn_post_nms_top_n_test=case.boxes,
        box_score_thresh=0.0,
        box_detections_per_img=case.detections,
    ).eval()
    # it would resize the masks to the size of the photograph
    model.transform.postprocess = lambda found, *sizes: found
    photos = _photos(case)[:, : case.height, : case.width].transpose(0, 3, 1, 2) / 255

    def step():
        with torch.inference_mode():
            found = model([torch.from_numpy(photo) for photo in photos])
        return {name: np.stack([one[name].numpy() for one in found]) for name in found[0]}

    return step


def _pyramid():
    """Returns the ConvNeXt-T of transformers behind a pyramid of torchvision's."""
    import torch
    from torchvision.ops.feature_pyramid_network import FeaturePyramidNetwork, LastLevelMaxPool
    from transformers import ConvNextBackbone, ConvNextConfig

    stages = ["stage1", "stage2", "stage3", "stage4"]
    # its own default is a tuple in some versions, which its backbone cannot take
    config = ConvNextConfig(hidden_sizes=[96, 192, 384, 768], out_features=stages)

    class Pyramid(torch.nn.Module):
        out_channels = CHANNELS

        def __init__(self):
            super().__init__()
            self.body = ConvNextBackbone(config)
            self.fpn = FeaturePyramidNetwork(
                config.hidden_sizes, CHANNELS, extra_blocks=LastLevelMaxPool()
            )

        def forward(self, images):
            maps = self.body(images).feature_maps
            return self.fpn({str(level): x for level, x in enumerate(maps)})

    return Pyramid()


# ---------------------------------------------------------------------------- operations


def _maps(case):
    random = np.random.default_rng(1)
    height, width = _canvas(case)
    shapes = [(case.batch, height // s, width // s, CHANNELS) for s in STRIDES]
    return [random.standard_normal(shape, "float32") for shape in shapes]


def _boxes(case):
    """Returns (batch, boxes, 4): boxes of all sizes, in the image."""
    random = np.random.default_rng(2)
    limits = np.array([case.width, case.height], "float32")
    sides = np.exp(random.uniform(np.log(16), np.log(min(limits)), (case.batch, case.boxes, 2)))
    low = random.uniform(0, 1, sides.shape) * (limits - np.minimum(sides, limits))
    return np.concatenate([low, np.minimum(low + sides, limits)], -1).astype("float32")


def _scores(case):
    return np.random.default_rng(3).random((case.batch, case.boxes), "float32")


def our_roi_align(case):
    from keras_convnext.detection import pyramid_roi_align

    return _compiled(lambda boxes, *maps: pyramid_roi_align(list(maps), boxes, 7), case, _maps)


def our_nms(case):
    from keras_convnext.detection import nms

    return _compiled(lambda boxes, scores: nms(boxes, scores, 0.7), case, lambda c: [_scores(c)])


def _compiled(function, case, others):
    """Returns a step that calls a function of boxes and other arrays, compiled where the backend
    does."""
    import keras

    values = [keras.ops.convert_to_tensor(x) for x in (_boxes(case), *others(case))]
    backend = keras.backend.backend()
    if backend == "jax":
        import jax

        function = jax.jit(function)
    elif backend == "tensorflow":
        import tensorflow as tf

        function = tf.function(function)
    else:
        import torch

        function = torch.inference_mode()(function)
    return lambda: keras.ops.convert_to_numpy(function(*values))


def torchvision_roi_align(case):
    import torch
    from torchvision.ops import MultiScaleRoIAlign

    levels = [str(level) for level in range(len(STRIDES))]
    align = MultiScaleRoIAlign(levels, 7, sampling_ratio=0)
    maps = {
        level: torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2)))
        for level, x in zip(levels, _maps(case), strict=True)
    }
    boxes = list(torch.from_numpy(_boxes(case)))
    sizes = [(case.height, case.width)] * case.batch

    def step():
        with torch.inference_mode():
            found = align(maps, boxes, sizes).numpy()
        return found.reshape(case.batch, case.boxes, *found.shape[1:]).transpose(0, 1, 3, 4, 2)

    return step


def torchvision_nms(case):
    import torch
    from torchvision.ops import nms

    boxes, scores = (torch.from_numpy(x) for x in (_boxes(case), _scores(case)))

    def step():
        kept = np.zeros(scores.shape, bool)
        with torch.inference_mode():
            for row, some, theirs in zip(kept, boxes, scores, strict=True):
                row[nms(some, theirs, 0.7).numpy()] = True
        return kept

    return step
