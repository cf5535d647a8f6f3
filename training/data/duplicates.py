"""Images that lie in two splits: found by content, with a bounded number of reads."""

import collections
import hashlib
import itertools
import os

from ..run import shell
from .listing import counted, some

HEAD = 2**16  # bytes that are compared before a whole file is read
MOST_HEADS = 20_000
MOST_FILES = 1_000  # that are read as a whole


def shared_images(paths, others):
    """Finds files with equal content in two lists of paths.

    Only files whose size occurs in both lists are opened: of those the first 64 KiB are read, and
    the whole file where these are equal, too. At most `MOST_HEADS` files are opened.

    Returns:
        `(pairs, skipped)`: a list of (path, other path), and the number of files of equal size
        that were not compared because there are too many.
    """
    kept, other_kept, skipped = _of_equal_size(paths, others)
    heads = collections.defaultdict(list)
    for path in kept:
        heads[_digest(path, HEAD)].append(path)
    likely = [
        (path, other) for other in other_kept for path in heads.get(_digest(other, HEAD), ())[:1]
    ]
    pairs = [
        (path, other) for path, other in likely[:MOST_FILES] if _digest(path) == _digest(other)
    ]
    return pairs, skipped + len(likely[MOST_FILES:])


def leaks(splits):
    """Yields a sentence for each two splits, of {name: split with `paths`}, that share images."""
    for one, other in itertools.combinations(splits, 2):
        pairs, skipped = shared_images(splits[one].paths, splits[other].paths)
        if pairs:
            same = some([f"{path} = {copy}" for path, copy in pairs])
            yield (
                f"In {one} and in {other}: {counted(len(pairs), 'image')}, so that what was "
                f"learned is measured; `{shell.entry('verify_data')}` lists all: {same}"
            )
        if skipped:
            yield (
                f"Not compared: {counted(skipped, 'image')} of {one} and {other}, because too "
                f"many are of equal size; `{shell.entry('verify_data')}` compares all."
            )


def _of_equal_size(paths, others):
    """Returns the files to compare from both lists, and the number of those beyond the limit."""
    sizes, other_sizes = _by_size(paths), _by_size(others)
    kept, other_kept, skipped = [], [], 0
    for size in sorted(sizes.keys() & other_sizes.keys()):
        left = MOST_HEADS - len(kept) - len(other_kept)
        one, two = sizes[size], other_sizes[size]
        if len(one) + len(two) > left:
            skipped += len(one) + len(two) - 2 * (left // 2)
            one, two = one[: left // 2], two[: left // 2]
        kept += one
        other_kept += two
    return kept, other_kept, skipped


def _by_size(paths):
    found = collections.defaultdict(list)
    for path in paths:
        found[_size(path)].append(path)
    for nothing in (None, 0):  # reading them will say what is wrong
        found.pop(nothing, None)
    return found


def _size(path):
    try:
        return os.stat(path).st_size
    except OSError:
        return None


def _digest(path, length=-1):
    try:
        with open(path, "rb") as file:
            return hashlib.sha256(file.read(length)).digest()
    except OSError:
        return path
