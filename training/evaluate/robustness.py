"""ImageNet-C: the mean corruption error, and the summary of measurements that it stands in."""

import collections

import numpy as np

from .imagenet import CORRUPTIONS, SETS, SEVERITIES
from .results import key_of

# AlexNet's errors, averaged over the severities: the unit of the mean corruption error. Published
# by the authors of arXiv 1903.12261 with their code, github.com/hendrycks/robustness.
ALEXNET_ERRORS = {
    "gaussian_noise": 88.6428,
    "shot_noise": 89.4468,
    "impulse_noise": 92.2640,
    "defocus_blur": 81.9880,
    "glass_blur": 82.6268,
    "motion_blur": 78.5948,
    "zoom_blur": 79.8360,
    "snow": 86.6816,
    "frost": 82.6572,
    "fog": 81.9324,
    "brightness": 56.4592,
    "contrast": 85.3204,
    "elastic_transform": 64.6056,
    "pixelate": 71.7840,
    "jpeg_compression": 60.6500,
}


def corruption_errors(errors):
    """Returns ({corruption: CE}, mCE), in percent, or `None` while a part is missing.

    Args:
        errors: `{"corruption_severity": error in percent}`.

    The error of a corruption, averaged over its severities, in units of AlexNet's, is CE; its mean
    over the 15 corruptions is mCE (section 4.2 of arXiv 1903.12261).
    """
    if set(SETS["imagenet2012_corrupted"].configs) - set(errors):
        return None
    relative = {
        corruption: 100
        * float(np.mean([errors[f"{corruption}_{level}"] for level in SEVERITIES]))
        / ALEXNET_ERRORS[corruption]
        for corruption in CORRUPTIONS
    }
    return relative, float(np.mean(list(relative.values())))


def summary(results):
    """Returns rows for people: results by weights and set; ImageNet-C as one row once complete."""
    lines, corrupted = [], collections.defaultdict(dict)
    for result in results:
        name, _, config = result["data"].partition("/")
        if name == "imagenet2012_corrupted":
            # the results of one row: equal but for the corruption
            key = key_of({**result, "data": name, "examples": None})
            corrupted[key][config] = result
        else:
            lines.append(_line(result, result["data"]))
    for several in corrupted.values():
        ce = corruption_errors({config: 100 - r["top1"] for config, r in several.items()})
        if ce is None:
            lines += [_line(result, result["data"]) for result in several.values()]
            continue
        first = next(iter(several.values()))
        mean = float(np.mean([100 - result["top1"] for result in several.values()]))
        whole = all(result["is_whole"] for result in several.values())
        line = {"top1": None, "top5": None, "mean_error": mean, "ce": ce[0], "mce": ce[1]}
        lines.append({**_line(first, "imagenet2012_corrupted"), **line, "is_whole": whole})
    return lines


def _line(result, data):
    fields = ("weights", "sha256", "form", "images", "classes", "is_whole", "top1", "top5")
    size = result["transform"]["size"]
    return {**{field: result[field] for field in fields}, "data": data, "size": size}


def print_summary(lines):
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    columns = ("weights", "data", "size", "images", "classes", "top-1", "top-5", "mCE", "remark")
    table = Table(*columns, header_style="bold", box=None, pad_edge=False)
    for line in lines:
        scores = (line["top1"], line["top5"], line.get("mce"))
        remarks = ("part of the set" * (not line["is_whole"]), "fast" * (line["form"] == "fast"))
        cells = [line[field] for field in ("weights", "data", "size", "images", "classes")]
        cells += ["-" if score is None else f"{score:.3f}" for score in scores]
        table.add_row(*(Text(str(cell)) for cell in cells), ", ".join(filter(None, remarks)))
    console = Console()
    if not console.is_terminal:
        console = Console(width=200)  # a file has no edge at which to wrap names
    console.print(table)
