"""The log of a run: `log.csv`, `log.jsonl`, TensorBoard, and Weights & Biases if asked for.

All of them are written from the history of the whole run, so that a run which was resumed, or
whose last write failed, has one log without gaps or repetitions.
"""

import contextlib
import csv
import dataclasses
import io
import json
import uuid
import warnings
from pathlib import Path

from keras_convnext.atomic import write_text

from ..data.dataset import tensorflow

EVENTS = "events.out.tfevents.*"
RUN_ID = "wandb_id.txt"


@contextlib.contextmanager
def open_logs(folder, config, writes=True):
    """Opens the log of the run in `folder`, inside of a `with` block.

    Args:
        folder: of the run's record; it exists.
        config: a `Config`; `tensorboard` and `wandb` say which logs there are besides the files.
        writes: whether this process writes; the others of a distributed run do not.

    Yields:
        a function of a `Progress`, to be called after each epoch. What cannot be written becomes
        a warning, because a run must not be lost for its log.

    Raises:
        ValueError: before the block, if Weights & Biases is asked for and cannot be used.
    """
    sinks = _sinks(Path(folder), config) if writes else []

    def log(progress):
        for sink in sinks:
            _attempt(sink, lambda sink=sink: sink.write(progress.history))

    failed = True
    try:
        yield log
        failed = False
    finally:
        for sink in sinks:
            _attempt(sink, lambda sink=sink: sink.close(failed))


def _sinks(folder, config):
    sinks = [_Files(folder)]
    if config.tensorboard:
        sinks.append(_TensorBoard(folder / "tensorboard"))
    if config.wandb:
        sinks.append(_WeightsAndBiases(folder, config))
    return sinks


def _attempt(sink, write):
    try:
        write()
    except Exception as error:  # a full disk, or whatever the library of a log raises
        reason = f"{type(error).__name__}: {error}"
        warnings.warn(f"{sink.name} cannot be written: {reason}", stacklevel=2)


class _Files:
    """`log.csv` and `log.jsonl`, one line per epoch."""

    name = "The log"

    def __init__(self, folder):
        self.folder = folder

    def write(self, history):
        write_text(self.folder / "log.csv", csv_text(history))
        write_text(self.folder / "log.jsonl", "".join(json.dumps(row) + "\n" for row in history))

    def close(self, failed):
        pass


def csv_text(rows):
    """Returns a table as text, with a column for each key that any of the rows (dicts) has."""
    text = io.StringIO()
    columns = list(dict.fromkeys(key for row in rows for key in row))
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


class _TensorBoard:
    """Event files in `train/` and `validation/`, under equal names, so that they share a chart.

    A resumed run writes its history anew and then removes the older files: what they had beyond
    the epoch that it resumed from never happened.
    """

    name = "TensorBoard's log"

    def __init__(self, folder):
        self.folder, self.writers, self.written = folder, {}, 0

    def write(self, history):
        older = [] if self.writers else list(self.folder.glob(f"*/{EVENTS}"))
        tf = tensorflow()
        for part in () if self.writers else ("train", "validation"):
            self.writers[part] = tf.summary.create_file_writer(str(self.folder / part))
        for row in history[self.written :]:
            self._write_row(tf, row)
        for writer in self.writers.values():
            writer.flush()
        self.written = len(history)
        for path in older:
            path.unlink()

    def _write_row(self, tf, row):
        for key, value in row.items():
            part = "validation" if key.startswith("val_") else "train"
            if key != "epoch":
                with self.writers[part].as_default(step=row["epoch"]):
                    tf.summary.scalar(f"epoch_{key.removeprefix('val_')}", value)

    def close(self, failed):
        for writer in self.writers.values():
            writer.close()


class _WeightsAndBiases:
    """A run at Weights & Biases, under an id that stays in the folder for resuming."""

    name = "The log at Weights & Biases"

    def __init__(self, folder, config):
        try:
            import wandb
        except ImportError:
            raise ValueError(
                f"--wandb={config.wandb} needs the package wandb: install wandb or --wandb=none."
            ) from None
        place = folder / RUN_ID
        is_known = place.exists()
        run_id = place.read_text(encoding="utf-8").strip() if is_known else uuid.uuid4().hex
        try:
            self.run = wandb.init(
                project=config.wandb,
                id=run_id,
                name=folder.name,
                dir=str(folder),
                config=json.loads(json.dumps(dataclasses.asdict(config), default=str)),
                resume="allow",
            )
        except wandb.errors.Error as error:
            raise ValueError(
                f"Weights & Biases does not begin a run of project {config.wandb!r}: {error} "
                "Log in (`wandb login`), set WANDB_MODE=offline, or leave it with --wandb=none."
            ) from error
        if not is_known:
            write_text(place, run_id + "\n")

    def write(self, history):
        # a step that was logged once cannot be replaced there
        for row in history:
            if row["epoch"] >= self.run.step:
                self.run.log(row, step=row["epoch"])

    def close(self, failed):
        self.run.finish(exit_code=int(failed))
