"""The table and the plots of "Which model should I take?", from the registry of published weights.

Accuracies are the publishers' own, on the ImageNet-1K validation set; parameters and multiply-adds
are counted; images per second are those of `benchmarks/results/speed.json`.
"""

import dataclasses
import json
from pathlib import Path

from keras_convnext.pretrained import rows

RESULTS = Path(__file__).resolve().parents[1] / "benchmarks" / "results"
OURS = ("jax", "tensorflow", "torch")
# How the plots show who trained on what: families of the registry, a colour and a marker.
GROUPS = {
    "ConvNeXt, its authors": (("v1", "v1-isotropic"), "#0072B2", "o"),
    "ConvNeXt V2, its authors": (("v2",), "#D55E00", "s"),
    "timm": (("timm",), "#009E73", "^"),
    "CLIP, fine-tuned": (("clip-ft",), "#9254A8", "D"),
}


@dataclasses.dataclass(frozen=True)
class Measured:
    """A published accuracy of published weights.

    Attributes:
        row: of the registry.
        size: side of the images, in pixels.
        figure: the `Accuracy`.
        macs: multiply-adds of one image of that size.
    """

    row: object
    size: int
    figure: object
    macs: int | None = None


def measured():
    """Returns a `Measured` for each classifier and size with a published accuracy."""
    found = []
    for row in (row for row in rows() if not row.variant.startswith("test_")):
        for size in filter(None, (row.size, row.test_size)):
            own = (f for f in row.accuracy if f.size == size and not f.zero_shot)
            figure = next((f for f in own if f.top1 is not None), None)
            if figure and row.label_set == "imagenet1k":
                found.append(Measured(row, size, figure))
    return found


def with_macs(found):
    """Returns the same with their multiply-adds, counted on models without weights."""
    from keras_convnext import ConvNeXt, count_macs
    from tests.shape_only import shapes_only

    models, counts = {}, {}
    for one in found:
        variant = one.row.architecture()
        if variant not in models:
            with shapes_only():
                models[variant] = ConvNeXt(variant, input_shape=(None, None, 3))
        key = variant, one.size
        if key not in counts:
            counts[key] = count_macs(models[variant], (one.size, one.size, 3))
    return [
        dataclasses.replace(one, macs=counts[one.row.architecture(), one.size]) for one in found
    ]


def frontier(found, cost):
    """Returns those that no other beats at the same or a lower cost, from cheap to dear."""
    best, kept = 0.0, []
    for one in sorted(found, key=lambda one: (cost(one), -one.figure.top1)):
        if one.figure.top1 > best:
            best, kept = one.figure.top1, [*kept, one]
    return kept


def for_any_use(found):
    """Returns those whose licence excludes no use and asks for no acceptance."""
    return [one for one in found if not (one.row.licence.non_commercial or one.row.licence.gated)]


def table(found):
    """Returns Markdown with one row per weights and size, and the sources below."""
    sources = list(dict.fromkeys(one.figure.source for one in found))
    lines = [
        "| weights | parameters | GMACs | size | top-1 | licence | source |",
        "|---|---:|---:|---:|---:|---|---|",
    ]
    for one in found:
        row = one.row
        cells = (f"`{row.name}`", f"{row.params / 1e6:.1f}M", f"{one.macs / 1e9:.2f}", one.size)
        cells += (f"{one.figure.top1:.2f}", row.licence.name)
        cells += (f"[{sources.index(one.figure.source) + 1}]",)
        lines.append(f"| {' | '.join(map(str, cells))} |")
    below = ", ".join(f"[{number}] {source}" for number, source in enumerate(sources, 1))
    return "\n".join([*lines, "", f"Sources of the accuracies: {below}."]) + "\n"


def speed_table():
    """Returns Markdown with the measured images per second of our models, inference alone."""
    results = json.loads((RESULTS / "speed.json").read_text(encoding="utf-8"))
    lines = [
        "| variant | size | batch | dtype | JAX | TensorFlow | PyTorch |",
        "|---|---:|---:|---|---:|---:|---:|",
    ]
    for found in results.values():
        made = found["configuration"]
        if made["task"] != "inference":
            continue
        cells = [made[field] for field in ("variant", "size", "batch", "dtype")]
        for backend in OURS:
            rates = found["contenders"].get(backend)
            cells.append(f"{rates['images_per_second']['median']:.3g}" if rates else "")
        lines.append(f"| {' | '.join(map(str, cells))} |")
    hardware = {(f["hardware"]["processor"], f["hardware"]["cores"]) for f in results.values()}
    machines = ", ".join(f"{name}, {cores} cores" for name, cores in sorted(hardware))
    return "\n".join([*lines, "", f"Images per second, medians; measured on {machines}."]) + "\n"


def plot(found, cost, label, path):
    """Writes a plot of accuracy against a cost, on a logarithmic axis."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.4, 4.4), layout="constrained")
    FigureCanvasSVG(figure)
    axes = figure.add_subplot()
    for name, (families, colour, marker) in GROUPS.items():
        own = [one for one in found if one.row.family in families]
        axes.scatter(
            [cost(one) for one in own],
            [one.figure.top1 for one in own],
            s=[18 + (one.size - 160) / 6 for one in own],
            **{"label": name, "color": colour, "marker": marker, "alpha": 0.75, "linewidths": 0},
        )
    best = frontier([one for one in found if _group(one)], cost)
    axes.plot([cost(one) for one in best], [one.figure.top1 for one in best], color="0.6", zorder=0)
    axes.set(xscale="log", xlabel=label, ylabel="ImageNet-1K top-1, % (as published)")
    axes.xaxis.set_major_formatter(lambda value, place: f"{value:g}")
    axes.grid(alpha=0.3)
    axes.legend(
        loc="lower right", fontsize=8, title_fontsize=8, title="larger marks: larger images"
    )
    figure.savefig(path, metadata={"Date": None})


def _group(one):
    return any(one.row.family in families for families, _, _ in GROUPS.values())


def write(folder, write_text):
    """Writes tables by `write_text(path, text)`, and plots, into a folder."""
    found = with_macs(measured())
    short = frontier(for_any_use(found), lambda one: one.macs)
    write_text(folder / "frontier.inc", table(short))
    write_text(folder / "every_accuracy.md", "# All published accuracies\n\n" + table(found))
    write_text(folder / "our_speed.inc", speed_table())
    plot(found, lambda one: one.macs / 1e9, "10⁹ multiply-adds per image", folder / "macs.svg")
    parameters = folder / "parameters.svg"
    plot(found, lambda one: one.row.params / 1e6, "10⁶ parameters", parameters)
