"""A progress bar of an evaluation."""


def shown(parts, total):
    """Returns an iterable of `total` parts, with a progress bar where somebody looks."""
    from rich.console import Console
    from rich.progress import track

    terminal = Console(stderr=True)
    hidden = not terminal.is_terminal
    return track(parts, "Evaluating", total, console=terminal, transient=True, disable=hidden)
