"""What Mask R-CNN and Cascade Mask R-CNN differ in, and every other number of theirs, as data.

The numbers are those that the paper's detectors were configured with (arXiv 2201.03545, section 4
and Appendix A.3): Mask R-CNN is arXiv 1703.06870, Cascade R-CNN is arXiv 1906.09756.
"""

import dataclasses

from keras_convnext import checks

STRIDES = (4, 8, 16, 32, 64)  # of the maps P2 to P6
MULTIPLE = 32  # of the sides that a detector takes: the stride of its coarsest stage
SHAPE = "image_shape"  # the input with heights and widths of images without their padding
BOX_LOSSES = ("l1", "giou")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stage:
    """A box head, and a mask head, which are trained on boxes of some quality.

    Attributes:
        overlap: least IoU with an object of the boxes that are positive.
        stds: what the deltas (dx, dy, dw, dh) are divided by.
        weight: factor on the losses.

    Example:
        import dataclasses
        from keras_convnext.detection import MASK_RCNN, Stage
        strict = dataclasses.replace(MASK_RCNN, stages=(Stage(overlap=0.6),))
        strict.stages[0].overlap  # 0.6
    """

    overlap: float = 0.5
    stds: tuple = (0.1, 0.1, 0.2, 0.2)
    weight: float = 1.0

    def __post_init__(self):
        checks.number("overlap", self.overlap, above=0, most=1)
        checks.number("weight", self.weight, least=0)
        if len(self.stds) != 4:
            checks.fail("stds", self.stds, "four numbers > 0")
        stds = tuple(checks.number("stds", std, above=0) for std in self.stds)
        object.__setattr__(self, "stds", stds)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """The numbers of a detector.

    Attributes:
        name: the family, a part of the models' names.
        stages: one `Stage` for each box head, from the first to the last; a dict with its fields
            will do.
        channels: of the maps of the pyramid and of all convolutions behind it.
        box_convolutions: number of 3x3 convolutions with batch normalization in a box head.
        box_dense: number of dense layers behind them.
        box_units: width of these.
        mask_convolutions: number of 3x3 convolutions in a mask head.
        box_loss: "l1": of the deltas; "giou": ten times the generalised IoU loss of the boxes.
        region_beta: where the region proposals' loss turns from quadratic to linear; 0: it is L1.
        low_quality: whether in the box heads an object takes the boxes that overlap with it most,
            even if another object overlaps them more.
        inside: whether only anchors that lie within the image are trained.
        region_samples: anchors per image that are trained; half of them positive at most.
        box_samples: boxes per image and stage that are trained.
        positive_share: the share of these that is positive at most; these train the masks.
        train_candidates, test_candidates: anchors per level with the highest scores.
        train_proposals, test_proposals: of these, boxes per image after the suppression.
        region_overlap: IoU above which a proposal is suppressed by a better one.
        score_threshold: detections have higher scores.
        detection_candidates: pairs of box and class with the highest scores that are looked at.
        detection_overlap: IoU above which a detection is suppressed by a better one of its class.
        detections: per image at most.
        sampling: "random", or "first": the first candidates in their order, to repeat a training
            step elsewhere.

    Example:
        import dataclasses
        from keras_convnext.detection import MASK_RCNN, MaskRCNN
        settings = dataclasses.replace(MASK_RCNN, detections=300, score_threshold=0.01)
        model = MaskRCNN("convnext_tiny", classes=3, settings=settings)
        model.settings.detections  # 300
    """

    name: str
    stages: tuple
    channels: int = 256
    box_convolutions: int = 0
    box_dense: int = 2
    box_units: int = 1024
    mask_convolutions: int = 4
    box_loss: str = "l1"
    region_beta: float = 0.0
    low_quality: bool = True
    inside: bool = False
    region_samples: int = 256
    box_samples: int = 512
    positive_share: float = 0.25
    train_candidates: int = 2000
    train_proposals: int = 1000
    test_candidates: int = 1000
    test_proposals: int = 1000
    region_overlap: float = 0.7
    score_threshold: float = 0.05
    detection_candidates: int = 4096
    detection_overlap: float = 0.5
    detections: int = 100
    sampling: str = "random"

    def __post_init__(self):
        stages = tuple(s if isinstance(s, Stage) else Stage(**s) for s in self.stages)
        object.__setattr__(self, "stages", stages)
        checks.integer("stages", len(stages), 1)
        checks.one_of("box_loss", self.box_loss, BOX_LOSSES)
        checks.one_of("sampling", self.sampling, ("random", "first"))
        for field in dataclasses.fields(self):
            if field.type is int or field.type == "int":
                least = 0 if field.name in ("box_convolutions", "mask_convolutions") else 1
                checks.integer(field.name, getattr(self, field.name), least)
        for field in ("positive_share", "region_overlap", "detection_overlap"):
            checks.number(field, getattr(self, field), above=0, most=1)
        checks.number("score_threshold", self.score_threshold, least=0, below=1)
        checks.number("region_beta", self.region_beta, least=0)

    @property
    def mask_samples(self):
        """Boxes per image and stage that train the masks, at most."""
        return int(self.box_samples * self.positive_share)


MASK_RCNN = Settings(name="mask_rcnn", stages=(Stage(),))
CASCADE_MASK_RCNN = Settings(
    name="cascade_mask_rcnn",
    stages=(
        Stage(overlap=0.5, stds=(0.1, 0.1, 0.2, 0.2), weight=1.0),
        Stage(overlap=0.6, stds=(0.05, 0.05, 0.1, 0.1), weight=0.5),
        Stage(overlap=0.7, stds=(0.033, 0.033, 0.067, 0.067), weight=0.25),
    ),
    box_convolutions=4,
    box_dense=1,
    box_loss="giou",
    region_beta=1 / 9,
    low_quality=False,
    inside=True,
    train_proposals=2000,
)
