"""Rows of the registry by their names, and by conditions. Unknown names say what there is."""

import difflib

from keras_convnext.checks import number
from keras_convnext.pretrained.heads import NAMES, with_article
from keras_convnext.pretrained.registry import table
from keras_convnext.pretrained.registry.row import TASKS, Row
from keras_convnext.pretrained.registry.table import IMAGENET
from keras_convnext.variants import VARIANTS

# What a name of weights for all variants stands for: each variant's usual ones.
USUAL = {"classification": "imagenet", "segmentation": "ade20k", "detection": "coco"}
CALLED = {
    "classification": "weights",
    "segmentation": "UperNet weights",
    "detection": "detector weights",
}

# What to do with weights of a task where those of another were asked for.
ADVICE = {
    "classification": "A ConvNeXt's own weights are `backbone_weights`.",
    "segmentation": "`segmentation.Segmenter` is for UperNets.",
    "detection": "`detection.Detector` is for detectors.",
}


def rows(task: str = "classification") -> tuple[Row, ...]:
    """Returns all rows of a task, ordered by variant.

    Args:
        task: `"classification"` (encoders included), `"segmentation"` or `"detection"`.

    Raises:
        ValueError: if there is no such task.

    Example:
        from keras_convnext.pretrained import rows
        print([row.name for row in rows("detection")])
    """
    _check("task", task, list(dict.fromkeys(TASKS.values())))
    return tuple(row for row in table.all_rows() if row.task == task)


def tags(variant: str, task: str = "classification", head: str | None = None) -> tuple[str, ...]:
    """Returns the tags of a variant, in the order of the registry; empty if it has none.

    Args:
        variant: key of `VARIANTS`.
        task: as of `rows`.
        head: `"mask_rcnn"` or `"cascade_mask_rcnn"` for the detectors of that family alone.

    Raises:
        ValueError: if there is no such variant, task or head.

    Example:
        from keras_convnext.pretrained import tags
        "fb_in22k" in tags("convnext_base")  # True
    """
    _check("variant", variant, VARIANTS)
    found = (row.tag for row in _with_head(head, task) if row.variant == variant)
    return tuple(dict.fromkeys(found))


def _with_head(head, task):
    """Returns the rows of a task, those with a head alone unless it is None."""
    known = rows(task)
    if head is None:
        return known
    _check("head", head, [key for key in TASKS if key and TASKS[key] == task])
    return tuple(row for row in known if row.head == head)


def find(
    name: str,
    variant: str | None = None,
    task: str = "classification",
    head: str | None = None,
) -> Row:
    """Returns the row of that name.

    Args:
        name: `"variant.tag"`; the publisher's own name (`Row.id`); or a variant, which stands for
            its usual weights: of classifiers those in the table `IMAGENET`, of UperNets the
            authors' with the highest mean IoU, of detectors the authors' with the highest AP of
            boxes. Names of UperNets begin with `"upernet_"`, names of detectors with `"mask_rcnn_"`
            or `"cascade_mask_rcnn_"`. Together with `variant` also a tag, or `"imagenet"` (of
            UperNets `"ade20k"`, of detectors `"coco"`), which stands for the variant's usual
            weights.
        variant: key of `VARIANTS` that the row must belong to; None for any.
        task: as of `rows`.
        head: `"mask_rcnn"` or `"cascade_mask_rcnn"`, the family that a detector must be of; a tag,
            or `"coco"`, may otherwise stand for one of each.

    Raises:
        ValueError: if there is no such row, or if it belongs to another variant or family.

    Example:
        from keras_convnext.pretrained import find
        row = find("convnext_base")  # its usual weights
        row.name, row.licence.name  # ("convnext_base.fb_in22k_ft_in1k", "MIT")
        find("imagenet", "convnext_base") == row  # True
    """
    known = _with_head(head, task)
    if variant is not None:
        _check("variant", variant, VARIANTS)
    if name == USUAL.get(task):
        return _usual(variant, task, head)
    by_name = {row.name: row for row in known} | {row.id: row for row in known}
    tagged = [row for row in known if row.variant == variant and row.tag == name]
    row = _only(tagged, name) or by_name.get(name) or _of_variant(name, task, head)
    if row is None:
        raise ValueError(_unknown(name, variant, task, head))
    if variant not in (None, row.variant):
        raise ValueError(
            f"Weights {name!r} belong to {row.variant}, not to {variant}. "
            f"{_published(variant, task, head)}"
        )
    return row


def _only(found, name):
    """Returns the only row of a list, None if it is empty."""
    if len(found) > 1:
        names = " or ".join(row.name for row in found)
        raise ValueError(f"{name!r} may be {names}: say which, or give `head`.")
    return found[0] if found else None


def _of_variant(name, task, head):
    """Returns the usual row where `name` is a variant's alone, or None."""
    own, variant = _bare(task).get(name, (None, None))
    return None if variant is None or head not in (None, own) else _usual(variant, task, own)


def _bare(task):
    """Returns the names without a tag, `{name: (head, variant)}`."""
    heads = [head for head in TASKS if TASKS[head] == task]
    return {f"{head}_{v}" if head else v: (head, v) for head in heads for v in VARIANTS}


def _usual(variant, task, head=None):
    if variant is None:
        raise ValueError(_needs_variant(task))
    found = [row for row in _with_head(head, task) if row.variant == variant]
    if task == "classification":
        found = [row for row in found if row.tag == IMAGENET.get(variant)]
        if not found:
            raise ValueError(_no_imagenet(variant))
        return found[0]
    if not found:
        raise ValueError(_unknown(USUAL[task], variant, task, head))
    official = [row for row in found if row.tag.startswith("fb_")] or found
    best = {row.head: row for row in sorted(official, key=lambda row: row.mean_iou or row.box_ap)}
    return _only(list(best.values()), USUAL[task])


def search(
    *,
    variant: str | None = None,
    family: str | None = None,
    licence: str | None = None,
    label_set: str | None = None,
    size: int | None = None,
    max_params: int | None = None,
    min_top1: float | None = None,
    task: str = "classification",
) -> tuple[Row, ...]:
    """Returns the rows that meet every condition given, in the order of the registry.

    Args:
        variant, family, label_set, size: equal to the field of the row.
        licence: the name of the licence, in any case: `"MIT"`, `"cc-by-nc-4.0"`.
        max_params: at most that many weights.
        min_top1: at least that `Row.top1`, in percent; rows without one are left out.
        task: as of `rows`.

    Raises:
        ValueError: if no row of the task has that variant, family, licence or label set, or a
            limit is no number.

    Example:
        from keras_convnext.pretrained import search
        for row in search(licence="Apache-2.0", max_params=10_000_000, min_top1=80):
            print(row.name, row.top1)
    """
    number("max_params", max_params, least=0, optional=True)
    number("min_top1", min_top1, least=0, most=100, optional=True)
    known = rows(task)
    wanted = {"variant": variant, "family": family, "label_set": label_set, "licence": licence}
    wanted = {f: match(f, value, known) for f, value in wanted.items() if value is not None}
    found = (row for row in known if all(_value(row, f) == v for f, v in wanted.items()))
    return tuple(
        row
        for row in found
        if size in (None, row.size)
        and (max_params is None or row.params <= max_params)
        and (min_top1 is None or (row.top1 is not None and row.top1 >= min_top1))
    )


def match(field, value, found):
    """Returns `value` as the rows `found` write it; only a licence may differ in case.

    Raises:
        ValueError: if none of them has it.
    """
    known = list(dict.fromkeys(_value(row, field) for row in found))
    known = list(VARIANTS) if field == "variant" else [name for name in known if name]
    if field == "licence":
        value = {name.lower(): name for name in known}.get(str(value).lower(), value)
    _check(field, value, known)
    return value


def _value(row, field):
    return row.licence.name if field == "licence" else getattr(row, field)


def _check(field, value, known):
    if value not in known:
        raise ValueError(
            f"Unknown {field} {value!r}.{_nearest(value, known)} Known: {', '.join(known)}."
        )


def _nearest(value, known):
    near = difflib.get_close_matches(str(value), known, n=3, cutoff=0.5)
    return f" Nearest: {', '.join(near)}." if near else ""


def _published(variant, task, head=None):
    if tags(variant, task, head):
        return f"Published for {variant}: {', '.join(tags(variant, task, head))}."
    called = f"{NAMES[head]} weights" if head else CALLED[task]
    return f"No {called} of {variant} were published; use weights=None."


def _unknown(name, variant, task, head=None):
    """Returns the message about a name that no row has."""
    known = _with_head(head, task)
    for row in rows(task):
        if head not in (None, row.head) and name in (row.name, row.id, f"{row.head}_{row.variant}"):
            return (
                f"{name!r} names weights of {with_article(row.head)}, asked for was "
                f"{with_article(head)}. {_published(variant or row.variant, task, head)}"
            )
    other = task_of(name, variant)
    if other not in (None, task):
        return f"{name!r} names weights for {other}, asked for was {task}. {ADVICE[other]}"
    elsewhere = [row.name for row in known if row.tag == name]
    said = f"Unknown {CALLED[task]} {name!r}"
    names = [entry for row in known for entry in (row.name, row.id)]
    if variant is not None:
        own = tags(variant, task, head)
        near = _nearest(name, [*([USUAL[task]] if own else []), *own, *names])
        if elsewhere:
            near += f" The tag exists elsewhere: {', '.join(elsewhere)}."
        return f"{said} for {variant}.{near} {_published(variant, task, head)}"
    if elsewhere:
        return f"The tag {name!r} alone names no weights; say which: {', '.join(elsewhere)}."
    bare = dict.fromkeys(row.name.rsplit(".", 1)[0] for row in known)
    near = _nearest(name, [*bare, *names])
    if task != "classification":
        published = ", ".join(row.name for row in known) or "none; use `weights=None`"
        return f"{said}.{near} Published are: {published}."
    return f"{said}.{near} All names: `keras-convnext list`, or `keras_convnext.pretrained.rows()`."


def task_of(name: str, variant: str | None = None) -> str | None:
    """Returns the task of the rows that a name, or a name with a variant, stands for, or None."""
    for task, usual in USUAL.items():
        mine = (row for row in rows(task) if row.variant == variant)
        known = {name for row in rows(task) for name in (row.name, row.id)}
        if name == usual or name in known | set(_bare(task)) | {row.tag for row in mine}:
            return task
    return None


def _needs_variant(task):
    example = next(row.name for row in rows(task))
    known = list(dict.fromkeys(row.variant for row in rows(task)))
    known = list(IMAGENET) if task == "classification" else known
    return (
        f'Weights "{USUAL[task]}" need a variant: say for example "{example}", '
        f"or give `variant`, one of {', '.join(known)}."
    )


def _no_imagenet(variant):
    line = variant.split("_")[0] + "_"
    others = ", ".join(other for other in IMAGENET if other.startswith(line))
    return (
        f'There are no "imagenet" weights of {variant}. {_published(variant, "classification")} '
        f"Variants of the same family that have them: {others}."
    )
