"""The best epoch of a run, and the checkpoint that holds its state."""

import math

from . import checkpoint


def is_better(row, best, score):
    """Returns whether an epoch is better than the best one so far, `None` at first.

    Of epochs with equal scores the one with the lower validation loss is better: with few images
    many epochs tie. An epoch without a score is worse than any that has one.

    Args:
        row, best: dicts with `val_loss` and, where it was measured, the column `score`.
        score: the column of the log that is compared, the higher the better; of a
            loss, the lower.
    """
    return best is None or _rank(row, score) > _rank(best, score)


def _rank(row, score):
    if score.endswith("loss"):
        return -row[score], 0
    return row.get(score, -math.inf), -row["val_loss"]


def checkpoint_of_best(folder, progress, plan, say=print):
    """Returns the intact checkpoint of the best epoch.

    Where it is damaged or missing, it says so, and `progress.best` becomes the best of the epochs
    whose checkpoints are left; `None` where there is none.

    Args:
        folder: of the checkpoints.
        progress: a `Progress`, changed in place.
        plan: a `Plan`.
        say: called with the sentence.
    """
    if progress.best is None:
        return None
    wanted = checkpoint.folder_of(folder, progress.best["step"])
    reason = checkpoint.damage(wanted)
    if reason is None:
        return wanted
    lost, progress.best = progress.best, None
    for row in progress.history:
        step = row["epoch"] * plan.steps_per_epoch
        is_left = checkpoint.damage(checkpoint.folder_of(folder, step)) is None
        if is_left and is_better(row, progress.best, plan.score):
            progress.best = {**row, "step": step}
    left = progress.best
    rest = f"epoch {left['epoch']} is the best of what is left" if left else "no other is left"
    say(f"The checkpoint of the best epoch, {lost.get('epoch', '?')}, is lost ({reason}); {rest}.")
    return left and checkpoint.folder_of(folder, left["step"])
