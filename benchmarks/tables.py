"""Tables in Markdown, and the results of `benchmarks.run` in them."""

from benchmarks.contenders import EAGER

HEAD = (
    "contender",
    "images/s",
    "range",
    "to eager PyTorch",
    "to keras.applications",
    "of the limit",
    "peak memory, MB",
    "peak to eager PyTorch",
    "over imports, MB",
    "build, s",
    "first step, s",
)


def document(results):
    """Returns the Markdown document, one section per configuration."""
    return "\n\n".join(section(name, found) for name, found in results.items()) + "\n"


def section(name, found):
    """Returns a heading, the table, and a line for what could not be measured."""
    rows = sorted(found["contenders"].items(), key=lambda item: -_rate(item[1]))
    cells = [[_name(contender, found), *_cells(numbers)] for contender, numbers in rows]
    lines = [f"## {name}", "", markdown(HEAD, cells, "---:"), "", _conditions(found)]
    lines += [f"- {contender}: {why}" for contender, why in found["failures"].items()]
    return "\n".join(lines)


def markdown(head, rows, others="---"):
    """Returns a Markdown table.

    Args:
        head: names of the columns.
        rows: lists of as many str.
        others: how the columns after the first are aligned.
    """
    lines = [head, ["---", *[others] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _rate(numbers):
    return numbers["images_per_second"]["median"]


def _name(contender, found):
    """It is said where a library left the GPU alone."""
    alone = found["contenders"][contender]["beginning"]["device"] == "cpu"
    return contender + " (on the CPU)" * (alone and "gpus" in found["hardware"])


def _cells(numbers):
    ratios = numbers["ratios"]
    eager = next((ratios[peer] for peer in EAGER if peer in ratios), None)
    applications = next((ratios[peer] for peer in ratios if peer not in EAGER), None)
    memory, begun = numbers["memory"], numbers["beginning"]
    low, high = numbers["images_per_second"]["range"]
    return [
        _number(_rate(numbers)),
        f"{_number(low)} to {_number(high)}",
        _ratio(eager),
        _ratio(applications),
        f"{numbers['of_limit']['median']:.0%}" if numbers["of_limit"] else "",
        f"{memory.get('device_peak_bytes', memory['peak_bytes']) / 1e6:.0f}",
        f"{memory['to_eager']:.2f}" if "to_eager" in memory else "",
        f"{memory['peak_over_imports_bytes'] / 1e6:.0f}",
        f"{begun['build_seconds']['median']:.1f}",
        f"{begun['first_step_seconds']['median']:.1f}",
    ]


def _number(value):
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _ratio(found):
    if found is None:
        return ""
    low, high = found["range"]
    return f"{found['median']:.2f} ({low:.2f} to {high:.2f})"


def _conditions(found):
    limit, hardware = found["limit"], found["hardware"]
    text = f"{found['rounds']} rounds of {found['steps']} steps on {hardware['processor']}, "
    text += f"{hardware['cores']} cores."
    if limit:
        low, high = limit["gigaflops"]["range"]
        text += f" The limit: {limit['gigaflops']['median']:.0f} GFLOP/s ({low:.0f} to {high:.0f})."
    return text
