"""The pictures of a run: curves, confusion matrix and the worst mistakes, as PNG files.

Every file is replaced atomically. Names of classes are shortened in their middle where they are
long, and nothing in them is taken for markup.
"""

import warnings

import numpy as np

from keras_convnext.atomic import replacing
from keras_convnext.cli.console import printable

NUMBERED_CLASSES = 40  # beyond, counts in the cells of a confusion matrix cannot be read
NAMED_CLASSES = 120  # beyond, neither can the names at its sides
COLUMNS, ROWS = 8, 5
PAIRS = 3  # side by side
WRONG = "tab:red"


def curves(history, path, average=False, score="accuracy"):
    """Draws loss and score over the epochs, of training and validation.

    Args:
        history: list of dicts, one per epoch, with `epoch` (from 1), `loss`, `accuracy`,
            `val_loss` and `val_accuracy`; the accuracies are in [0, 1], and may be missing.
        path: of the PNG.
        average: whether the validated weights are a moving average, which the legend then says.
        score: what the history has in place of `accuracy`; `None`: only the loss is drawn.

    Raises:
        OSError: if the file cannot be written.
    """
    keys = ("loss",) if score is None else ("loss", score)
    figure = _figure(5 * len(keys), 4)
    validation = "validation (moving average)" if average else "validation"
    axes = figure.subplots(1, len(keys), squeeze=False)[0]
    for axis, key in zip(axes, keys, strict=True):
        _curve(axis, history, key, "training", "tab:blue")
        _curve(axis, history, f"val_{key}", validation, "tab:orange")
        axis.set(xlabel="epoch", ylabel=_in_words(key))
        axis.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
        axis.grid(alpha=0.3)
        if axis.lines:
            axis.legend()
    _finish_curves(axes, history, score)
    _save(figure, path)


def roadmap(rows, path, title):
    """Draws accuracy and multiply-adds of the steps from ResNet to ConvNeXt, from top to bottom.

    Args:
        rows: list of dicts with `step`, `accuracy` in [0, 1], `spread` (its standard deviation, or
            `None`) and `macs`.
        path: of the PNG.
        title: what was trained.

    Raises:
        OSError: if the file cannot be written.
    """
    figure = _figure(9, 0.9 + 0.36 * len(rows))
    axis, cost = figure.subplots(1, 2, sharey=True, width_ratios=(3, 1))
    steps = [row["step"] for row in rows]
    accuracies = [100 * row["accuracy"] for row in rows]
    spreads = [100 * (row["spread"] or 0) for row in rows]
    axis.barh(steps, accuracies, xerr=spreads, color="tab:blue", alpha=0.7, capsize=2)
    lowest, highest = min(accuracies) - max(spreads), max(accuracies) + max(spreads)
    axis.set(xlabel="accuracy in percent", xlim=(max(0, lowest - 5), highest + 2))
    for place, accuracy in enumerate(accuracies):
        axis.text(axis.get_xlim()[0], place, f" {accuracy:.1f}", va="center", fontsize=8)
    cost.plot([row["macs"] / 1e6 for row in rows], steps, "o-", color="tab:orange")
    cost.set(xlabel="million multiply-adds")
    cost.grid(alpha=0.3)
    axis.invert_yaxis()
    figure.suptitle(title, fontsize=10)
    _save(figure, path)


def _in_words(key):
    """Returns what a column of the log is called: "mean IoU", "box AP"."""
    short = {"ap": "AP", "iou": "IoU"}
    return " ".join(short.get(word, word) for word in key.split("_"))


def _curve(axis, history, key, label, color):
    history = [row for row in history if key in row]  # some scores are of validation alone
    if not history:
        return
    epochs = [row["epoch"] for row in history]
    marker = "o" if len(history) <= 30 else None  # a single epoch has no line
    axis.plot(epochs, [row[key] for row in history], label=label, color=color, marker=marker, ms=4)


def _finish_curves(axes, history, score):
    from matplotlib.ticker import PercentFormatter

    lowest = min(history, key=lambda row: row["val_loss"])
    axes[0].set_title(f"Validation loss {lowest['val_loss']:.4g} at best, epoch {lowest['epoch']}")
    if score is None:
        return
    measured = [row for row in history if f"val_{score}" in row]
    if not measured:
        axes[1].set_title(f"{_in_words(score)}: not measured")
        return
    best = max(measured, key=lambda row: row[f"val_{score}"])
    reached = f"{100 * best[f'val_{score}']:.2f} % at best, epoch {best['epoch']}"
    axes[1].set_title(f"Validation {_in_words(score)} {reached}")
    axes[1].set_ylim(bottom=max(0, axes[1].get_ylim()[0]))  # a score of 0 throughout has a margin
    axes[1].yaxis.set_major_formatter(PercentFormatter(1))


def confusion(assessment, class_names, path):
    """Draws the confusion matrix: rows are the classes of the images, columns the predictions.

    The colour of a cell is its part of the row's images, its number their count. Beyond 40
    classes there are colours only, which then rise with the square root, so that single mistakes
    show.

    Args:
        assessment: an `Assessment` with a `confusion`.
        class_names: of its classes.
        path: of the PNG.

    Raises:
        ValueError: if the assessment has no `confusion`.
        OSError: if the file cannot be written.
    """
    from matplotlib.colors import PowerNorm

    counts = assessment.confusion
    if counts is None:
        raise ValueError(f"There is no confusion matrix of {len(class_names)} classes.")
    classes = len(counts)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    has_numbers = classes <= NUMBERED_CLASSES
    side = 2.6 + (max(2, 0.42 * classes) if has_numbers else min(0.095 * classes, 12))
    figure = _figure(side + 0.8, side)
    axis = figure.subplots()
    norm = PowerNorm(1 if has_numbers else 0.5, 0, 1)
    cells = axis.imshow(shares, cmap="Blues", norm=norm, interpolation="nearest")
    figure.colorbar(cells, ax=axis, shrink=0.8, label="part of the images of a class")
    if has_numbers:
        _write_counts(axis, counts, shares)
    _name_classes(axis, class_names)
    axis.set(xlabel="predicted", ylabel="is")
    axis.set_title(f"{assessment.images} images, {100 * assessment.top1:.2f} % right")
    _save(figure, path)


def _write_counts(axis, counts, shares):
    size = max(4, 9 - max(0, len(str(counts.max())) - 2))
    for (row, column), count in np.ndenumerate(counts):
        color = "white" if shares[row, column] > 0.5 else "black" if count else "lightgrey"
        axis.text(column, row, count, ha="center", va="center", color=color, fontsize=size)


def _name_classes(axis, class_names):
    classes = len(class_names)
    if classes > NAMED_CLASSES:
        return  # their numbers, which stand there already
    names = [_short(name, 24) for name in class_names]
    size = 9 if classes <= NUMBERED_CLASSES else 5
    style = {"fontsize": size, "parse_math": False}
    upright = classes > 12
    axis.set_yticks(range(classes), names, **style)
    axis.set_xticks(range(classes), names, **style)
    axis.tick_params("x", rotation=90 if upright else 45)
    for label in axis.get_xticklabels():
        label.set(
            ha="center" if upright else "right", rotation_mode="default" if upright else "anchor"
        )


def mistakes(assessment, class_names, path):
    """Draws the most confident mistakes, titles in red, and right predictions where room is left.

    Args:
        assessment: an `Assessment`.
        class_names: of its classes.
        path: of the PNG.

    Raises:
        OSError: if the file cannot be written.
    """
    examples = (assessment.mistakes + assessment.right)[: ROWS * COLUMNS]
    columns = min(COLUMNS, max(4, len(examples)))
    rows = -(-len(examples) // columns)
    figure = _figure(1.75 * columns, 2.2 * rows + 0.5)
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for axis, example in zip(axes.flat, examples, strict=False):
        _draw(axis, example, class_names)
    wrong = assessment.images - int(assessment.hits.sum())
    figure.suptitle(_headline(wrong, min(len(assessment.mistakes), len(examples)), assessment))
    _save(figure, path)


def _headline(wrong, shown, assessment):
    text = f"{wrong} of {assessment.images} images are predicted wrongly"
    if shown < wrong:
        return f"{text}; the {shown} most confident mistakes"
    return text + (", right ones in black" if wrong else "")


def _draw(axis, example, class_names):
    is_grey = example.image.shape[-1] < 3
    pixels = example.image[..., 0] if is_grey else example.image[..., :3]
    axis.imshow(pixels, cmap="gray", vmin=0, vmax=255)
    predicted = _short(class_names[example.predicted], 18)
    percent = _percent(example.confidence)
    if example.predicted == example.label:
        title, color = f"{predicted}\n{percent}", "black"
    else:
        is_class = _short(class_names[example.label], 20)
        title, color = f"{predicted}\n{percent}, is\n{is_class}", WRONG
    axis.set_title(title, fontsize=9, color=color, parse_math=False)


def pairs(sections, note, path):
    """Draws sections of pairs of pictures, each with a heading.

    Args:
        sections: list of (heading, list of (left, right, title)), none of which is empty: two uint8
            arrays (height, width, 3), and what is said of them. Without sections the note is alone.
        note: how a pair is to be read; stands above all sections.
        path: of the PNG.

    Raises:
        OSError: if the file cannot be written.
    """
    rows = [-(-len(shown) // PAIRS) for _, shown in sections]
    heights = [0.8 + 2.7 * count for count in rows]
    figure = _figure(4.6 * PAIRS, sum(heights) + 0.5)
    figure.suptitle(note, fontsize=10, x=0.01, ha="left")
    parts = figure.subfigures(len(sections), height_ratios=heights) if sections else []
    for part, count, (heading, shown) in zip(np.atleast_1d(parts), rows, sections, strict=True):
        part.suptitle(heading, fontsize=11, fontweight="bold", x=0.01, ha="left")
        axes = part.subplots(count, 2 * PAIRS, squeeze=False)
        for axis in axes.flat:
            axis.axis("off")
        for place, (left, right, title) in enumerate(shown):
            row, column = divmod(place, PAIRS)
            for axis, picture in zip(axes[row, 2 * column :], (left, right), strict=False):
                axis.imshow(picture)
            text = "\n".join(_short(line, 28) for line in title.splitlines())
            axes[row, 2 * column].set_title(text, fontsize=8, loc="left", parse_math=False)
    _save(figure, path)


def _percent(confidence):
    """Certainty is not rounded up to."""
    return "> 99 %" if 0.99 < confidence < 1 else f"{100 * confidence:.0f} %"


def _short(name, most):
    """Both ends of a name, as long names often differ in their ends."""
    name = " ".join(printable(str(name)).split())
    if len(name) <= most:
        return name
    end = (most - 1) // 2
    return f"{name[: most - 1 - end]}…{name[-end:]}"


def _figure(width, height):
    from matplotlib.figure import Figure  # and not pyplot, which has a state and may open windows

    return Figure(figsize=(width, height), layout="constrained")


def _save(figure, path):
    with warnings.catch_warnings(), replacing(path) as draft:
        # a script that the font lacks becomes boxes
        warnings.filterwarnings("ignore", r"Glyph .* missing from", UserWarning)
        figure.savefig(draft, dpi=120)
