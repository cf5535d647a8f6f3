"""Measures what matters on a GPU in one run of ten minutes, the most important first.

    python -m benchmarks.gpu
    python -m benchmarks.gpu --seconds 1800         # with more time for compilers
    python -m benchmarks.gpu --quick                # small and also without a GPU: does all run?

Tiny, Base and V2-Tiny at 224 pixels, training (in bfloat16 mixed precision) and inference, in
bfloat16, TF32 and float32, beside eager and compiled PyTorch models in channels last of
transformers and timm, and Swin. The contenders of one configuration start side by side, so that
their compilers share the processor's cores; then they take turns as in `benchmarks.run`, whose
docstring explains the tables. What no time was left for is named at the end. A library
that is not installed, or sees no GPU, is named below each table or beside its row: `make bench`
installs those for CPUs, so take an environment with TensorFlow, JAX and PyTorch for your GPU.
"""

import argparse
import sys
import tempfile
from pathlib import Path
from time import monotonic

from benchmarks import run
from benchmarks.flags import positive
from benchmarks.machine import gpus

SUITE = (  # variant, dtype, task
    ("convnext_tiny", "bfloat16", "training"),
    ("convnext_tiny", "bfloat16", "inference"),
    ("convnext_tiny", "tf32", "inference"),
    ("convnext_tiny", "tf32", "training"),
    ("convnext_tiny", "float32", "inference"),
    ("convnext_tiny", "float32", "training"),
    ("convnext_base", "bfloat16", "training"),
    ("convnext_base", "bfloat16", "inference"),
    ("convnextv2_tiny", "bfloat16", "training"),
    ("convnextv2_tiny", "bfloat16", "inference"),
)
CONTENDERS = ("torch", "jax", "tensorflow", "transformers", "timm-compiled-channels-last")
CONTENDERS += ("transformers-swin", "timm-channels-last", "product-torch")
BATCH, ROUNDS, STEPS = 128, 3, 10
RESULTS = run.RESULTS.with_name("gpu.json")


def main(argv=None):
    """Returns the exit status: 2 without a GPU, 1 if nothing could be measured, else 0."""
    arguments = parse(argv)
    if not (gpus() or arguments.quick):
        print("There is no NVIDIA GPU here; --quick runs the suite on the CPU.", file=sys.stderr)
        return 2
    measured, left = suite(arguments, monotonic() + arguments.seconds)
    for name in left:
        print(f"- {name}: not measured, the {arguments.seconds} seconds were over")
    return int(not any(found["contenders"] for found in measured.values()))


def parse(argv):
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--seconds", type=positive, default=600, metavar="N", help="default: %(default)s")
    add("--batch", type=positive, default=BATCH, metavar="N", help="images; default: %(default)s")
    add(
        "--contenders",
        choices=list(run.CONTENDERS),
        default=CONTENDERS,
        nargs="+",
        metavar="NAME",
        help="of `python -m benchmarks.run --help`; default: " + " ".join(CONTENDERS),
    )
    add("--results", type=Path, default=RESULTS, metavar="JSON", help="default: %(default)s")
    add("--quick", action="store_true", help="2 images of 32 pixels, once; keeps nothing")
    return parser.parse_args(argv)


def suite(arguments, deadline):
    """Measures configurations until the deadline, in seconds of `time.monotonic`.

    Returns:
        `{name: results}`, and the names of the configurations that were left out.
    """
    measured, left = {}, []
    with tempfile.TemporaryDirectory() as folder:
        for configuration in configurations(arguments):
            if monotonic() > deadline:
                left.append(configuration.name)
                continue
            found = run.one(configuration, settings(arguments, deadline), folder)
            measured[configuration.name] = found
            print(run.tables.section(configuration.name, found), flush=True)
            if not arguments.quick:
                run.keep(arguments.results, run.known(arguments.results) | measured)
    return measured, left


def configurations(arguments):
    """Yields the suite's configurations in its order."""
    flags = [] if not arguments.quick else ["--quick"]
    usual = run.parse([*flags, "--batches", "2" if arguments.quick else str(arguments.batch)])
    for variant, dtype, task in SUITE:
        usual.variants, usual.dtypes, usual.tasks = [variant], [dtype], [task]
        yield from run.configurations(usual)


def settings(arguments, deadline):
    """Returns what `run.one` wants to know."""
    quick = arguments.quick
    return argparse.Namespace(
        contenders=list(arguments.contenders),
        rounds=1 if quick else ROUNDS,
        steps=1 if quick else STEPS,
        fresh=False,
        patience=arguments.seconds,
        together=True,
        deadline=deadline,
    )


if __name__ == "__main__":
    sys.exit(main())
