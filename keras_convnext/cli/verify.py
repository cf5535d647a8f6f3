"""`verify`: a checkpoint hashed again, loaded strictly, and compared with published logits."""

import itertools
import os
from pathlib import Path

from keras_convnext.cli import console, flags
from keras_convnext.named_weights import NamedWeights, weights_of
from keras_convnext.pretrained import download, registry, resolve


def add_parser(commands):
    examples = (
        "convnext_tiny.fb_in1k",
        "convnext_tiny.fb_in1k --image 000000039769.jpg",
        "mine.safetensors --variant convnext_tiny",
    )
    help = "hash a checkpoint again, load it strictly, compare published logits"
    parser = flags.add_command(commands, "verify", run, help, examples)
    parser.add_argument("name", metavar="NAME", help="a checkpoint's name, hf://..., or a file")
    flags.add_variant(parser)
    parser.add_argument(
        "--image", metavar="FILE", help=f"the photograph {registry.FIRST_LOGITS_IMAGE}"
    )


def run(arguments):
    if arguments.image and not os.path.isfile(arguments.image):
        raise FileNotFoundError(f"No image {arguments.image!r}.")
    weights = _weights_of_known_hash(arguments)
    digest = download.sha256_of(weights.path)
    expected, origin = _expected_hash(weights, digest)
    report = {
        "name": weights.name,
        "path": str(weights.path),
        "sha256": digest,
        "expected": expected,
        "expected_from": origin,
    }
    if expected in (None, digest):
        faults = _check_model(weights, arguments.image, report)
    else:
        faults = ["the sha256 is another than expected, so the file was not loaded"]
    report["result"] = "; ".join(faults) or "good"
    console.report(arguments.json, report)
    return 1 if faults else 0


def _weights_of_known_hash(arguments):
    """A file that is byte for byte a published one is verified as that."""
    name, variant = arguments.name, arguments.variant
    if os.path.isfile(name):
        digest = download.sha256_of(name)
        rows = itertools.chain.from_iterable(map(registry.rows, registry.USUAL))
        same = [r for r in rows if digest in [s.sha256 for s in r.sources]]
        if same and variant in (None, same[0].variant):
            row = same[0]
            return NamedWeights(row.name, row.architecture(), Path(name), row, row.head)
    return weights_of(name, variant, any_head=True)


def _expected_hash(weights, digest):
    """Returns the hash that the file must have, or `None`, and where it is known from."""
    if weights.row is None:
        return None, "nowhere: not a published file with a known sha256"
    for source in weights.row.sources:
        place = resolve.source_of(source, weights.row)
        if source.sha256 and (source.sha256 == digest or download.cached(place) == weights.path):
            return source.sha256, "published"
    recorded = [e.sha256 for e in download.cache_entries() if e.path == weights.path]
    return next(iter(recorded), None), "recorded at first use, none is published"


def _check_model(weights, image, report):
    """Returns what is wrong with the loaded model, a list of phrases."""
    from keras_convnext.macs import trained_parameters

    alone = {"pooling": None if weights.classes else "avg", "classifier_activation": None}
    model = weights.build(input_shape=(None, None, 3), **(alone if weights.head is None else {}))
    parameters = trained_parameters(model)
    report |= {
        "variant": weights.variant.name,
        "classes": weights.classes,
        "parameters": parameters,
        "loaded": "strictly: nothing missing, nothing left over, all finite",
    }
    faults = []
    if weights.row is not None and parameters != weights.row.params:
        faults.append(f"expected are {weights.row.params} parameters")
    return faults + _check_logits(model, weights.row, image, report)


def _check_logits(model, row, image, report):
    """Returns how the first outputs for the photograph differ from the published ones."""
    if row is None or row.first_logits is None:
        report["logits"] = "none published"
        return []
    if image is None:
        report["logits"] = f"not compared; give --image with {registry.FIRST_LOGITS_IMAGE}"
        return []
    differences = logit_differences(model, row, image)
    best = min(differences, key=differences.get)
    matched = differences[best] <= registry.FIRST_LOGITS_TOLERANCE
    report["logits"] = {
        "expected": row.first_logits,
        "source": registry.FIRST_LOGITS_SOURCE,
        "tolerance": registry.FIRST_LOGITS_TOLERANCE,
        "matched": best if matched else None,
        "differences": differences,
    }
    return [] if matched else [f"no resize gives the published logits ({best} comes nearest)"]


def logit_differences(model, row, image):
    """Returns {resize: largest difference from the row's published logits}.

    How the photograph was resized for them is not published, so all usual ways are tried.

    Args:
        model: of the row, from (1, height, width, 3) in [0, 255] to logits (features, for an
            encoder without classifier), of any height and width.
        row: with `first_logits`.
        image: the photograph; anything that `load_image` takes.
    """
    import numpy as np

    expected = np.array(row.first_logits)
    differences = {}
    for name, pixels in _resized(row, image).items():
        outputs = np.asarray(model.predict_on_batch(pixels[None]))[0, : len(expected)]
        differences[name] = float(np.abs(outputs - expected).max())
    return differences


def _resized(row, image):
    import numpy as np

    from keras_convnext.images import load_image
    from keras_convnext.preprocessing import FILTERS, EvalTransform

    image, size = load_image(image), row.size
    sides = [size * side // min(image.size) for side in image.size]
    evaluation = row.transform()
    ways = {f"its evaluation: {evaluation.in_words()}": evaluation(image)}
    for kind, resample in FILTERS.items():
        for mode in ("squash", "shortest"):
            transform = EvalTransform(size, None, mode, kind)
            ways[transform.in_words()] = transform(image)
        ways[f"short side {size}, uncropped, {kind}"] = np.array(image.resize(sides, resample))
    return ways
