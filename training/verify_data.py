"""Decodes every image of a dataset: `python -m training.verify_data DIR|NAME [--data_dir DIR]`.

DIR has a folder of images per class, alone or inside of train/, val/ and test/, or annotations in
COCO's format, whose images are examined.

It lists the images that cannot be decoded, with the reason, and warns about files that are not used
and about what is unusual: the same image more than once (above all in two splits or classes), CMYK,
16-bit and animated images, and a rotation in EXIF. Files are read, never changed.

Exit status: 0 all images can be decoded, 1 some cannot, 2 the command was used wrongly.
"""

import argparse
import collections
import concurrent.futures
import dataclasses
import hashlib
import json
import os
import sys
import warnings
from pathlib import Path

from keras_convnext.atomic import write_text
from keras_convnext.cli.console import printable, warnings_as_notes

from .data import coco_file, coco_layout, images, stream, tfds
from .data.dataset import DataError
from .data.folder import FileSplit, every_split, file_split
from .run import shell

SHOWN = 3  # of each kind of warning; the report has all
IN_FLIGHT = 8  # images per worker that are in memory
LAYOUTS = (
    "a folder of images per class, alone or inside of train/, val/ and test/, or annotations in "
    "COCO's format"
)


@dataclasses.dataclass
class Findings:
    """What was found in all splits of a dataset.

    Attributes:
        images: {split: number of images that were examined}.
        bad: [{"split", "name", "reason"}] of the images that cannot be decoded.
        damaged: sentences about files of records that cannot be read.
        notes: {kind: names}, see `training.data.images.notes`.
        duplicates: {kind: [[name, name of the same image]]}; kinds are "in two splits", "in two
            classes" and "more than once".
    """

    images: dict = dataclasses.field(default_factory=dict)
    bad: list = dataclasses.field(default_factory=list)
    damaged: list = dataclasses.field(default_factory=list)
    notes: dict = dataclasses.field(default_factory=dict)
    duplicates: dict = dataclasses.field(default_factory=dict)

    @property
    def is_fine(self):
        return not self.bad and not self.damaged


def every_split_of(data, data_dir=None):
    """Returns {name: Split} of a directory of class folders, of one with annotations in COCO's
    format, or of a prepared set."""
    if data == "digits":
        raise DataError("The dataset 'digits' is in memory: it has no files to verify.")
    if data == "folder":
        return every_split(data_dir)
    # The name of a set may contain a slash, too.
    if data_dir is None and (os.path.isdir(data) or data.startswith(("/", ".", "~"))):
        return _of_directory(data)
    builder = tfds.open_builder(data, data_dir, or_directory=data_dir is None)
    tfds.check_features(builder)
    names = [name for name, info in builder.info.splits.items() if info.num_examples]
    form = tfds.Labelled()  # of any labels: those of a test split may be secret
    return {name: tfds.read_split(builder, name, form) for name in names}


def _of_directory(data):
    try:
        return every_split(data)
    except DataError as error:
        root = Path(data).expanduser()
        if not root.is_dir():
            raise
        try:
            places = coco_layout.recognise(root)
        except DataError:
            raise DataError(f"{error} `check` takes {LAYOUTS}.") from error
    return {split: _of_coco(split, place, root) for split, place in places.items()}


def _of_coco(split, place, root):
    names = [image.name for image in coco_file.read(place.file, masks=False).images]
    folder = place.folder_with(names)
    return file_split(split, [str(folder / name) for name in names], [0] * len(names), root)


def verify(splits, workers, progress=lambda total: lambda: None):
    """Examines every image of the splits and returns the `Findings`.

    Args:
        splits: {name: Split}.
        workers: number of threads that decode.
        progress: called with the number of images, returns a function that is called after each.
    """
    findings, first = Findings(), {}
    step = progress(sum(split.size for split in splits.values()))
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        for split_name, split in splits.items():
            findings.images[split_name] = 0
            for seen in _in_order(pool, _contents(split, findings), workers * IN_FLIGHT):
                findings.images[split_name] += 1
                _add(findings, first, split_name, seen)
                step()
    return findings


@dataclasses.dataclass(frozen=True)
class _Seen:
    name: str
    label: int
    digest: bytes | None
    reason: str | None
    notes: tuple = ()


def _contents(split, findings):
    """Yields (name, label, content, or the OSError in place of it)"""
    if isinstance(split, FileSplit):
        for path, label in zip(split.paths, split.labels, strict=True):
            try:
                yield path, int(label), Path(path).read_bytes()
            except OSError as error:
                yield path, int(label), error
        return
    try:
        with stream.sentences(split):
            for example in split.examples().as_numpy_iterator():
                name = example["name"].decode("utf-8", "backslashreplace")
                yield name, int(example["label"]), example["image"]
    except DataError as error:
        findings.damaged += list(split.damage()) or [str(error)]


def _in_order(pool, contents, limit):
    """Yields what `_look` returns for each, in order, with at most `limit` of them in memory."""
    waiting = collections.deque()
    for content in contents:
        waiting.append(pool.submit(_look, *content))
        if len(waiting) >= limit:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _look(name, label, content):
    name = printable(name)
    if isinstance(content, OSError):
        return _Seen(name, label, None, f"cannot be read: {content.strerror}")
    digest = hashlib.sha256(content).digest()
    reason = images.problem(content)
    return _Seen(name, label, digest, reason, () if reason else images.notes(content))


def _add(findings, first, split, seen):
    if seen.reason:
        findings.bad.append({"split": split, "name": seen.name, "reason": seen.reason})
        return
    for note in seen.notes:
        findings.notes.setdefault(note, []).append(seen.name)
    other_split, other = first.setdefault(seen.digest, (split, seen))
    if other is seen:
        return
    kind = "more than once"
    if other.label != seen.label:
        kind = "in two classes"
    elif other_split != split:
        kind = "in two splits"
    findings.duplicates.setdefault(kind, []).append([other.name, seen.name])


# ---------------------------------------------------------------- for people


def print_findings(findings):
    for sentence in findings.damaged:
        print(sentence)
    for bad in findings.bad:
        print(f"{bad['name']}: {bad['reason']}")
    for note, names in findings.notes.items():
        subject = "1 image is" if len(names) == 1 else f"{len(names)} images are"
        print(f"Warning: {subject} {note}: {_some(names)}")
    for kind, pairs in findings.duplicates.items():
        same = [f"{one} = {other}" for one, other in pairs]
        subject = "1 image occurs" if len(pairs) == 1 else f"{len(pairs)} images occur"
        print(f"Warning: {subject} {kind}: {_some(same)}")
    counts = ", ".join(f"{name} {count}" for name, count in findings.images.items())
    print(f"{len(findings.bad)} of {sum(findings.images.values())} images are bad ({counts}).")


def _some(names):
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")


def _bar(total):
    from tqdm import tqdm

    bar = tqdm(total=total, unit=" images", disable=None, leave=False)  # None: not in a file
    return bar.update


def _arguments(argv):
    parser = argparse.ArgumentParser(
        prog=shell.entry("verify_data"),
        description="Decodes every image of a dataset and lists the bad ones. Changes nothing.",
        epilog="Exit status: 0 all images can be decoded, 1 some cannot, 2 wrong usage.\n\n"
        "examples:\n"
        "  %(prog)s PHOTOS\n"
        "  %(prog)s PHOTOS --report=findings.json\n"
        "  %(prog)s cifar10 --data_dir=TFDS",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("data", help=f"a directory with {LAYOUTS}; or a prepared set by name")
    parser.add_argument("--data_dir", help="where TensorFlow Datasets keeps its sets")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="threads")
    parser.add_argument("--report", type=Path, help="a JSON file for all findings")
    arguments = parser.parse_args(argv)
    if arguments.workers < 1:
        parser.error(f"--workers must be at least 1, received {arguments.workers}")
    if arguments.report and not arguments.report.parent.is_dir():
        parser.error(f"--report: the folder {str(arguments.report.parent)!r} does not exist")
    return arguments


def main(argv=None):
    arguments = _arguments(argv)
    try:
        with warnings_as_notes():
            splits = every_split_of(arguments.data, arguments.data_dir)
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about single images, which are counted instead
        findings = verify(splits, arguments.workers, _bar)
    print_findings(findings)
    if arguments.report:
        content = {"data": arguments.data} | dataclasses.asdict(findings)
        write_text(arguments.report, json.dumps(content, indent=2) + "\n")
    return 0 if findings.is_fine else 1


if __name__ == "__main__":
    sys.exit(main())
