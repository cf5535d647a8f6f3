"""Images that lie in two splits: found by content, with a bounded number of reads."""

import collections
import hashlib
import os

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
    sizes, other_sizes = _by_size(paths), _by_size(others)
    both = sorted(sizes.keys() & other_sizes.keys())
    candidates = [path for size in both for path in sizes[size]]
    other_candidates = [path for size in both for path in other_sizes[size]]
    kept, other_kept = candidates[: MOST_HEADS // 2], other_candidates[: MOST_HEADS // 2]
    skipped = len(candidates) + len(other_candidates) - len(kept) - len(other_kept)
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


def _by_size(paths):
    found = collections.defaultdict(list)
    for path in paths:
        found[_size(path)].append(path)
    found.pop(None, None)
    return found


def _size(path):
    try:
        return os.stat(path).st_size
    except OSError:
        return None  # reading it will say what is wrong


def _digest(path, length=-1):
    try:
        with open(path, "rb") as file:
            return hashlib.sha256(file.read(length)).digest()
    except OSError:
        return path
