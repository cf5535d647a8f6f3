"""The published checkpoints, one row each. Data only: nothing is downloaded or loaded here.

`registry.json` is the source; edit it by hand. It has three parts: `licences` and `references`,
which rows name by their key, and `rows`: the classifiers and encoders in the order of `VARIANTS`,
then the UperNets, then the detectors. A value that nobody has published or measured (a revision, a
sha256, a size in bytes) is null there and None here.

Variant and tag are separate words, `convnext_tiny.fb_in22k_ft_in1k_384`. The tag is timm's where
timm names the checkpoint. The others follow this rule, trainer first, then data, then what is
particular:

| checkpoint | tag |
|---|---|
| authors' ImageNet-1K weights at 384 | `fb_in1k_384` |
| authors' weights without averaging | `fb_in1k_nonema` |
| authors' isotropic models (a variant of their own) | `fb_in1k` |
| torchvision | `tv_in1k` |
| files of keras.applications | `keras_in1k`, `keras_in22k_ft_in1k` |
| mmpretrain's own training | `mmpretrain_in1k`, `mmpretrain_in1k_noema`, |
| | `mmpretrain_spark_ft_in1k` (after SparK pretraining) |
| image tower of an open_clip model | its tag in open_clip, and `_320` if its model is `*_320` |
| UperNet (`upernet_` before the variant) | trainer (`fb`: the authors; `mm`: OpenMMLab), what the |
| | ConvNeXt had learned, data, side of the crops: `fb_in22k_ft_ade20k_640` |
| detector (`mask_rcnn_` or `cascade_mask_rcnn_` | the same without a side: `fb_in22k_ft_coco` |
| before the variant) | |

Left out: mmpretrain's SparK pretraining file (`spark_sparse-convnextv2-tiny`), whose encoder and
decoder are no classifier and whose tensor names are not documented.
"""

from keras_convnext.pretrained.registry.lookup import (
    USUAL,
    find,
    match,
    rows,
    search,
    tags,
    task_of,
)
from keras_convnext.pretrained.registry.row import (
    FIRST_LOGITS_IMAGE,
    FIRST_LOGITS_SOURCE,
    FIRST_LOGITS_TOLERANCE,
    INTERPOLATIONS,
    LABEL_SETS,
    RESIZE_MODES,
    TASKS,
    Accuracy,
    Licence,
    Row,
    Source,
)
from keras_convnext.pretrained.registry.table import IMAGENET, parse

__all__ = [
    "Accuracy",
    "FIRST_LOGITS_IMAGE",
    "FIRST_LOGITS_SOURCE",
    "FIRST_LOGITS_TOLERANCE",
    "IMAGENET",
    "INTERPOLATIONS",
    "LABEL_SETS",
    "Licence",
    "RESIZE_MODES",
    "Row",
    "Source",
    "TASKS",
    "USUAL",
    "find",
    "match",
    "parse",
    "rows",
    "search",
    "tags",
    "task_of",
]
