"""Proves the rows of the registry: download, hash, strict load, parameters, published logits.

    python -m weights.verify --report verify/report.json --image 000000039769.jpg --delete
    python -m weights.verify convnext_tiny.fb_in1k --report verify/report.json --all_sources

Without names it takes all rows. The report is written after every source of a row, as JSON and,
beside it, as Markdown. What has passed is not done again when the command is repeated; what has
failed is. One bad row does not stop the others. Exit status 1 if any row failed.

A row passes if one of its sources does; `--all_sources` asks it of each of them. A source passes
if its file arrives with the pinned hash (or, where none is pinned, with the one recorded at first
use), every tensor is used and finite, the number of parameters is the row's, a forward pass is
finite, and the first outputs for the photograph are the published ones, where there are some and
`--image` is given. The report has the hash and size of every file, for the registry to pin.

`--delete` bounds the disk to one row: what was downloaded for it is deleted after it. Hub files go
to a folder of their own then; the hub's shared cache is neither used nor touched.
"""

import argparse
import contextlib
import dataclasses
import itertools
import json
import os
import sys
import tempfile
import time
from pathlib import Path

import keras
import numpy as np

from keras_convnext.atomic import write_text
from keras_convnext.cli.verify import logit_differences
from keras_convnext.macs import trained_parameters
from keras_convnext.named_weights import NamedWeights
from keras_convnext.pretrained import download, registry, resolve


def verify(row, source, image=None):
    """Returns what was found out about one source of a row: a dict, `error` None if it passed.

    Args:
        row: of the registry.
        source: one of `row.sources`.
        image: path of the photograph of `registry.FIRST_LOGITS_IMAGE`.
    """
    start = time.perf_counter()
    found = {"name": row.name, "source": _address(source), "error": None}
    try:
        found |= _file(row, source)
        found |= _model(row, source, found["path"], image)
    except Exception as error:  # one bad row shall not stop the others
        found["error"] = f"{type(error).__name__}: {error}"
    found.pop("path", None)
    return {**found, "seconds": round(time.perf_counter() - start, 1)}


def _address(source):
    if source.url is not None:
        return source.url
    return f"hf://{source.repo}@{source.revision or 'main'}/{source.file}"


def _file(row, source):
    alone = dataclasses.replace(row, sources=(source,))
    path = resolve.fetch(alone, include_top=source.top)
    digest = download.sha256_of(path)
    # `fetch` trusts what it hashed before; the bytes as they are now must agree, too
    if source.sha256 not in (None, digest):
        raise ValueError(f"sha256 is {digest}, pinned is {source.sha256}: {path}")
    return {"path": path, "sha256": digest, "bytes": path.stat().st_size}


def _model(row, source, path, image):
    with_top = bool(row.classes) and source.top
    weights = NamedWeights(row.name, row.architecture(), Path(path), row, row.head)
    alone = {"pooling": None if with_top else "avg", "classifier_activation": None}
    model = weights.build(input_shape=(None, None, 3), **(alone if row.head is None else {}))
    found = {"parameters": trained_parameters(model), "layout": "strict"}
    if with_top == bool(row.classes) and found["parameters"] != row.params:
        raise ValueError(f"{found['parameters']} parameters, the registry says {row.params}.")
    noise = np.random.default_rng(0).integers(0, 256, (1, row.size, row.size, 3), "uint8")
    outputs = keras.tree.flatten(model.predict_on_batch(noise))
    if not all(np.isfinite(np.asarray(output)).all() for output in outputs):
        raise ValueError("a forward pass gives NaN or infinite outputs.")
    return found | {"logits": _logits(model, row, with_top, image)}


def _logits(model, row, with_top, image):
    if row.first_logits is None or with_top != bool(row.classes):
        return "none published"
    if image is None:
        return "not compared: no --image"
    differences = logit_differences(model, row, image)
    best = min(differences, key=differences.get)
    difference = f"{differences[best]:.2g} off the published ones ({best})"
    if not differences[best] <= registry.FIRST_LOGITS_TOLERANCE:
        raise ValueError(f"the first logits are {difference}.")
    return difference


# ---------------------------------------------------------------- all rows


def verify_all(rows, report, *, image=None, all_sources=False, delete=False, say=print):
    """Verifies rows that the report has not as passed; writes it after every source.

    Args:
        rows: of the registry.
        report: path of the JSON file; its Markdown form lies beside it.
        image, all_sources, delete: see the module.
        say: called with a line of text per source.

    Returns:
        Names of the rows that did not pass.
    """
    found = load_report(report)
    for row in rows:
        with _leaving_nothing() if delete else contextlib.nullcontext():
            for source in row.sources:
                old = found.get((row.name, _address(source)))
                if old is None or old["error"]:
                    old = found[row.name, _address(source)] = verify(row, source, image)
                    _write(report, found)
                    say(f"{row.name}: {old['error'] or 'good'} ({old['source']})")
                    keras.backend.clear_session(free_memory=True)
                if old["error"] is None and not all_sources:
                    break
    return [row.name for row in rows if not _has_passed(row, found, all_sources)]


def _has_passed(row, found, all_sources):
    results = [found.get((row.name, _address(source))) for source in row.sources]
    return (all if all_sources else any)(r is not None and not r["error"] for r in results)


@contextlib.contextmanager
def _leaving_nothing():
    """Deletes what the block downloads. The hashes of first use stay, to compare with next time."""
    before = {entry.path for entry in download.cache_entries()}
    home = download.cache_dir()
    home.mkdir(parents=True, exist_ok=True)
    old = os.environ.get("HF_HUB_CACHE")
    with tempfile.TemporaryDirectory(prefix="verify-", dir=home) as folder:
        os.environ["HF_HUB_CACHE"] = folder  # nothing is ever deleted in the shared one
        try:
            yield
        finally:
            os.environ.pop("HF_HUB_CACHE") if old is None else os.environ.update(HF_HUB_CACHE=old)
            new = [e.path for e in download.cache_entries() if not e.shared]
            download.clear_cache([path for path in new if path not in before])


def load_report(path):
    """Returns `{(row, source): what was found}`, empty if there is no such file."""
    try:
        entries = json.loads(Path(path).read_text(encoding="utf-8"))["sources"]
        return {(entry["name"], entry["source"]): entry for entry in entries}
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} is no report ({error!r}). Move it away or name another."
        ) from error


def _write(path, found):
    entries = list(found.values())
    about = {"backend": keras.backend.backend(), "keras": keras.__version__}
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps({**about, "sources": entries}, indent=1) + "\n")
    write_text(Path(path).with_suffix(".md"), markdown(entries))


def markdown(entries):
    """Returns the report for people, as Markdown."""
    failed = sum(entry["error"] is not None for entry in entries)
    lines = [
        "# Verification of the published weights",
        "",
        f"{len(entries) - failed} files passed, {failed} failed.",
        "",
        "| weights | source | bytes | sha256 | first logits | result |",
        "|---|---|---|---|---|---|",
    ]
    for entry in entries:
        cells = [entry.get(field, "") for field in ("bytes", "sha256", "logits")]
        cells = [entry["name"], entry["source"], *cells, entry["error"] or "good"]
        lines.append(f"| {' | '.join(' '.join(str(c).split()).replace('|', '/') for c in cells)} |")
    return "\n".join(lines) + "\n"


# ---------------------------------------------------------------- command line


def main(argv=None):
    """Returns the exit status: 0; 1 if a row failed; 2 for a wrong command line."""
    parser = argparse.ArgumentParser(
        prog="python -m weights.verify",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="rows; default: all")
    parser.add_argument("--report", required=True, help="JSON file, continued if it exists")
    parser.add_argument("--image", help=f"a copy of {registry.FIRST_LOGITS_IMAGE}")
    parser.add_argument("--all_sources", action="store_true", help="fallbacks and mirrors, too")
    parser.add_argument("--delete", action="store_true", help="keep no file longer than its row")
    parser.add_argument("--registry", help="another registry.json; default: the library's")
    arguments = parser.parse_args(argv)
    try:
        rows = _rows(arguments.names, arguments.registry)
        load_report(arguments.report)
        if arguments.image and not Path(arguments.image).is_file():
            raise ValueError(f"No image {arguments.image!r}.")
    except (ValueError, OSError, KeyError, TypeError) as error:
        parser.error(str(error))
    failed = verify_all(
        rows,
        arguments.report,
        image=arguments.image,
        all_sources=arguments.all_sources,
        delete=arguments.delete,
    )
    print(f"{len(rows) - len(failed)} of {len(rows)} rows passed; see {arguments.report}.")
    return 1 if failed else 0


def _rows(names, file):
    """Returns rows by name, all of them without names."""
    if file is None:
        found = [registry.find(n, task=registry.task_of(n) or "classification") for n in names]
        every = itertools.chain.from_iterable(map(registry.rows, registry.USUAL))
        return found or list(every)
    rows = {row.name: row for row in registry.parse(Path(file).read_text(encoding="utf-8"))}
    unknown = [name for name in names if name not in rows]
    if unknown:
        raise ValueError(f"{file} has no row {unknown[0]!r}; it has {', '.join(rows)}.")
    return [rows[name] for name in names] or list(rows.values())


if __name__ == "__main__":
    sys.exit(main())
