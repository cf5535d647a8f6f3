"""Measures how many training images per second the augmentations make of JPEG files.

    python -m benchmarks.input_pipeline PHOTOS

reads the JPEG files of the folder PHOTOS (photographs of about 500 x 375 pixels, as ImageNet's)
over and over, with the whole recipe of the paper at 224 pixels, through the trainer's own pipeline
and, for comparison, through Pillow in worker processes as timm does it:

- `pillow_full`: crop, flip, RandAugment, normalisation, erasing, mixing: all on the CPU;
- `pillow_device`: up to RandAugment, uint8; the rest is left to the device;
- `exact`: `augmentation="exact"`, which leaves the same rest to the device;
- `keras_cv`: `augmentation="keras_cv"`, which leaves nothing.

All use as many workers or threads as there are cores. Each measurement has a process of its own,
and they take turns. Rates are the clock's; `cpu_ms_per_image` is the time of all processes on all
cores, which neighbours disturb less. Medians, with their range.
"""

import argparse
import json
import os
import time
from pathlib import Path

import numpy as np

from benchmarks.children import run_once
from benchmarks.machine import machine
from benchmarks.medians import ratio, save_results, spread

RESULTS = Path(__file__).parent / "results" / "input_pipeline.json"
SIZE, CLASSES, BATCH = 224, 1000, 64
WARM_UP = 4  # batches


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("photos", help="a folder of JPEG files")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--rounds", type=int, default=5, help="each pipeline runs once in each")
    parser.add_argument("--batches", type=int, default=24, help=f"of {BATCH}, that are timed")
    parser.add_argument("--in-child", choices=sorted(PIPELINES), help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if arguments.in_child:
        print(json.dumps(timed(arguments.in_child, photographs(arguments.photos), arguments)))
        return
    numbers = measure(arguments)
    save_results(arguments.results, numbers)
    print(table(numbers))


def measure(arguments):
    """Measures the pipelines in turns and returns all results."""
    paths = photographs(arguments.photos)
    runs = {name: [] for name in PIPELINES}
    for _ in range(arguments.rounds):
        for name in PIPELINES:
            runs[name].append(child(name, arguments))
    rates = {name: [run["images_per_second"] for run in found] for name, found in runs.items()}
    return {
        "pipelines": {name: summary(found) for name, found in runs.items()},
        "exact_to_pillow_full": ratio(rates["exact"], rates["pillow_full"]),
        "exact_to_pillow_device": ratio(rates["exact"], rates["pillow_device"]),
        "files": {
            "count": len(paths),
            "mean_kilobytes": round(float(np.mean([os.path.getsize(p) for p in paths])) / 1e3, 1),
        },
        "rounds": arguments.rounds,
        **machine("torch", "tensorflow", "pillow", "keras", "keras-cv"),
    }


def summary(runs):
    return {name: spread([run[name] for run in runs]) for name in runs[0]}


def child(name, arguments):
    flags = ["--in-child", name, "--batches", str(arguments.batches)]
    return run_once("benchmarks.input_pipeline", arguments.photos, *flags)


def photographs(folder):
    paths = sorted(str(p) for p in Path(folder).rglob("*") if p.suffix.lower() in (".jpg", ".jpeg"))
    if not paths:
        raise SystemExit(f"There are no JPEG files in {folder!r}: name a folder of photographs.")
    return paths


def table(numbers):
    lines = ["| pipeline | images/s | CPU ms/image |", "|---|---|---|"]
    for name, found in numbers["pipelines"].items():
        rate, cpu = found["images_per_second"]["median"], found["cpu_ms_per_image"]["median"]
        lines.append(f"| {name} | {rate:.0f} | {cpu:.2f} |")
    for peer in ("pillow_full", "pillow_device"):
        found = numbers[f"exact_to_{peer}"]
        lines.append(
            f"exact / {peer}: {found['median']} ({found['range'][0]} to {found['range'][1]})"
        )
    return "\n".join(lines)


# ---------------------------------------------------------------- what runs in a process of its own


def timed(name, paths, arguments):
    """Returns the rate of one pipeline over `arguments.batches` batches, after a warm-up."""
    # one epoch: what its beginning costs is not the question
    paths = paths * -(-BATCH * (WARM_UP + arguments.batches) // len(paths))
    stream = iter(PIPELINES[name](paths))
    for _ in range(WARM_UP):
        next(stream)
    start, start_cpu = time.perf_counter(), cpu_seconds()
    for _ in range(arguments.batches):
        next(stream)
    seconds, cpu = time.perf_counter() - start, cpu_seconds() - start_cpu
    images = BATCH * arguments.batches
    return {"images_per_second": images / seconds, "cpu_ms_per_image": 1e3 * cpu / images}


def cpu_seconds():
    """Time on all cores of this process and its children, those that still run included."""
    mine, ticks = os.getpid(), os.sysconf("SC_CLK_TCK")
    total = 0
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has ended
        if mine in (int(folder.name), int(fields[1])):
            total += int(fields[11]) + int(fields[12])
    return total / ticks


def pillow(finished):
    def run(paths):
        from benchmarks.pillow_pipeline import batches

        return batches(paths, BATCH, os.cpu_count(), finished)

    return run


def ours(kind):
    def run(paths):
        import keras  # noqa: F401 before TensorFlow

        from keras_convnext import augmentation
        from training.data import stream
        from training.data.folder import file_split

        augment = getattr(augmentation, kind)(SIZE, CLASSES)
        split = file_split("photographs", paths, np.arange(len(paths)) % CLASSES)
        return stream.batches(split, augment, augment.batch, BATCH, seed=0, epoch=0)

    return run


PIPELINES = {
    "pillow_full": pillow(finished=True),
    "pillow_device": pillow(finished=False),
    "exact": ours("PaperAugmentation"),
    "keras_cv": ours("KerasCV"),
}

if __name__ == "__main__":
    main()
