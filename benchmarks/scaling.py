"""The plot of `benchmarks.run --scaling`: how time and memory grow with size and batch."""

import itertools

CENTRE_SIZE, CENTRE_BATCH = 224, 8
AXES = {"size": "height and width, pixels", "batch": "images per step"}
COSTS = ("ms per image", "peak memory over imports, MB")


def cross(sizes, batches):
    """Returns `(size, batch)` for all sizes at one batch and all batches at one size.

    These are 224 pixels and a batch of 8 if they are among them, else the first of each.
    """
    size, batch = _centre(sizes, CENTRE_SIZE), _centre(batches, CENTRE_BATCH)
    return [(s, batch) for s in sizes] + [(size, b) for b in batches if b != batch]


def _centre(values, usual):
    return usual if usual in values else values[0]


def draw(results, path):
    """Writes a PNG: milliseconds per image and peak memory over size and over batch, logarithmic.

    Each variant, dtype and task has a row of panels. The dotted lines over the size grow as the
    number of pixels does.

    Args:
        results: `{configuration: results of benchmarks.run}` of one cross.
        path: of the picture, whose folder exists.

    Returns:
        the path.
    """
    from matplotlib.figure import Figure

    from keras_convnext.atomic import replacing

    lines = sorted({_line(found) for found in results.values()})
    panes = list(itertools.product(AXES, COSTS))
    figure = Figure(figsize=(4.5 * len(panes), 4 * len(lines)), layout="constrained")
    panels = figure.subplots(len(lines), len(panes), squeeze=False)
    for row, line in zip(panels, lines, strict=True):
        of_line = [found for found in results.values() if _line(found) == line]
        for panel, (axis, cost) in zip(row, panes, strict=True):
            _panel(panel, axis, cost, _along(axis, of_line))
            panel.set_title(" ".join(line))
    handles = {label: line for p in panels.flat for line, label in zip(*_legend(p), strict=True)}
    figure.legend(handles.values(), handles.keys(), loc="outside right upper", fontsize="small")
    with replacing(path) as draft:
        figure.savefig(draft, dpi=150)
    return path


def _legend(panel):
    return panel.get_legend_handles_labels()


def _line(found):
    return tuple(found["configuration"][name] for name in ("variant", "dtype", "task"))


def _along(axis, of_line):
    """Returns the results with the commonest value on the other axis, sorted along this one."""
    other = "batch" if axis == "size" else "size"
    values = [found["configuration"][other] for found in of_line]
    shared = max(values, key=values.count)
    chosen = [found for found in of_line if found["configuration"][other] == shared]
    return sorted(chosen, key=lambda found: found["configuration"][axis])


def _cost(cost, found):
    """Returns the cost of a contender, and its least and greatest value."""
    if cost == COSTS[0]:
        rate = found["images_per_second"]
        return 1e3 / rate["median"], *(1e3 / end for end in reversed(rate["range"]))
    return (found["memory"]["peak_over_imports_bytes"] / 1e6,) * 3


def _panel(panel, axis, cost, along):
    from matplotlib.ticker import LogLocator

    names = dict.fromkeys(name for found in along for name in found["contenders"])
    for place, name in enumerate(names):
        points = [
            (found["configuration"][axis], *_cost(cost, found["contenders"][name]))
            for found in along
            if name in found["contenders"]
        ]
        x, y, least, greatest = zip(*points, strict=True)
        color = f"C{place % 10}"
        style = "-" if place < 10 else "--"
        panel.plot(x, y, style, color=color, marker=".", label=name)
        panel.fill_between(x, least, greatest, color=color, alpha=0.2, linewidth=0)
        if axis == "size":
            panel.plot(x, [y[0] * (side / x[0]) ** 2 for side in x], ":", color=color, alpha=0.5)
    panel.set(xscale="log", yscale="log", xlabel=AXES[axis], ylabel=cost)
    ticks = [found["configuration"][axis] for found in along]
    panel.set_xticks(ticks, [str(tick) for tick in ticks])
    panel.minorticks_off()
    # the usual ticks of a logarithmic axis are its powers of ten: here that may be one, or none
    panel.yaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
    panel.yaxis.set_major_formatter("{x:g}")
    panel.grid(axis="y", alpha=0.3)
