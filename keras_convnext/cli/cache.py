"""`cache`: the downloaded files."""

import dataclasses
import sys

from keras_convnext.cli import console, flags
from keras_convnext.cli.flags import UsageError
from keras_convnext.pretrained import download


def add_parser(commands):
    examples = ("", "show --json", "clear --yes")
    parser = flags.add_command(
        commands, "cache", run, "show or clear the downloaded files", examples
    )
    parser.add_argument(
        "action",
        nargs="?",
        choices=("show", "clear"),
        default="show",
        help="show what is there, or delete it (default: %(default)s)",
    )
    parser.add_argument("--yes", action="store_true", help="clear without asking")


def run(arguments):
    if arguments.action == "clear":
        return _clear_cache(arguments)
    if arguments.yes:
        raise UsageError("--yes belongs to `cache clear`.")
    entries = download.cache_entries()
    if arguments.json:
        found = [_entry_as_dict(entry) for entry in entries]
        console.print_json({"location": str(download.cache_dir()), "entries": found})
        return 0
    columns = ("file", "size", "verified", "source", "remark")
    console.print_table(columns, map(_entry_as_cells, entries))
    total = sum(entry.size for entry in entries)
    console.say(f"{len(entries)} files, {console.in_bytes(total)}, in {download.cache_dir()}")
    return 0


def _entry_as_dict(entry):
    return {**dataclasses.asdict(entry), "path": str(entry.path)}


def _entry_as_cells(entry):
    remark = "shared with other programs" * entry.shared + "unfinished" * entry.partial
    verified = (entry.verified or "never")[:10]
    size, source = console.in_bytes(entry.size), entry.source or "unknown"
    return str(entry.path), size, verified, source, remark or "-"


def _clear_cache(arguments):
    own = [entry for entry in download.cache_entries() if not entry.shared]
    if own and not arguments.yes and not _confirmed(own):
        console.say("Nothing was deleted.")
        return 1
    removed = download.clear_cache(forget_hashes=True)
    if arguments.json:
        console.print_json({"removed": [_entry_as_dict(entry) for entry in removed]})
    else:
        total = console.in_bytes(sum(entry.size for entry in removed))
        print(f"Deleted {len(removed)} files, {total}, and the hashes recorded at first use.")
    kept = len(own) - len(removed)
    if kept:
        console.say(f"{kept} files are being written by another process and were left.")
    return 1 if kept else 0


def _confirmed(entries):
    if not sys.stdin.isatty():
        raise UsageError("stdin is no terminal, so nobody can be asked: add --yes to delete.")
    total = console.in_bytes(sum(entry.size for entry in entries))
    console.say(f"Delete {len(entries)} files, {total}, of {download.cache_dir()}? [y/N] ", end="")
    return sys.stdin.readline().strip().lower() in ("y", "yes")
