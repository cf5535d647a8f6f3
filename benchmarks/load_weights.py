"""Measures whether reading a large file of weights is bound by the disk, and the memory it takes.

    KERAS_BACKEND=jax python -m benchmarks.load_weights

writes random weights of a variant (`convnext_xlarge` by default, 350 million parameters) in timm's
names to a temporary folder, and then times, each in a process of its own:

- `read`: `np.fromfile` of the file, the floor that the disk (cold) or the memory (warm) sets;
- `build`: the model with random weights, without a file;
- `load`: `ConvNeXt(variant, weights=<file>)`, all that a user waits for after the imports.

Cold means that the system was asked to drop the file from its cache first, which it does for
written pages; what a hypervisor or a disk keep beyond that is out of reach.

`seconds` are the clock's, `cpu_seconds` those of the process on all cores. Memory is the peak of
the resident set over what it was right before, divided by the file's size. `peak_ratio` counts
everything, also pages of the file that are only mapped and that the system may take back at any
moment; `peak_private_ratio` leaves those out (sampled every 5 ms). The promise of at most 2.2 is
about `peak_ratio`: exit status 1 if it is broken.
"""

import argparse
import contextlib
import json
import os
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

from benchmarks.children import run_once
from benchmarks.machine import machine
from benchmarks.medians import read_results, save_results, spread
from benchmarks.memory import forget_peak, memory

RESULTS = Path(__file__).parent / "results" / "load_weights.json"
PROMISED_RATIO = 2.2
CHUNK = 1 << 22  # numbers written at once


def main(argv=None):
    """Returns the exit status: 1 if loading takes more memory than promised, else 0."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--variant", default="convnext_xlarge")
    parser.add_argument("--results", type=Path, default=RESULTS, help="merged by backend")
    parser.add_argument("--folder", help="where the file goes; its disk is measured")
    parser.add_argument("--repeats", type=int, default=3, help="of each; the median is reported")
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        path = os.path.join(folder, "model.safetensors")
        child("write", path, arguments.variant)
        numbers = measure(path, arguments.variant, arguments.repeats)
    print(json.dumps(numbers, indent=1))
    save(arguments.results, numbers)
    return int(
        max(numbers["load"][state]["peak_ratio"] for state in numbers["load"]) > PROMISED_RATIO
    )


def measure(path, variant, repeats):
    """Measures the running backend, with the repeats in turns, and returns all results."""
    modes = ("read", "load")
    samples = {(mode, state): [] for mode in modes for state in ("cold", "warm")}
    builds = []
    for _ in range(repeats):
        for mode in modes:
            forget(path)
            samples[mode, "cold"].append(child(mode, path, variant))
            samples[mode, "warm"].append(child(mode, path, variant))
        builds.append(child("build", path, variant))
    result = {mode: {} for mode in modes}
    for (mode, state), runs in samples.items():
        result[mode][state] = summary(runs)
    megabytes = round(os.path.getsize(path) / 1e6, 1)
    return {
        "variant": variant,
        "file_megabytes": megabytes,
        "repeats": repeats,
        **result,
        "build": summary(builds),
        **child("about", path, variant),
    }


def summary(runs):
    """Median and range of the times, the worst of the memory."""
    numbers = {}
    for name in ("seconds", "cpu_seconds"):
        found = spread([run[name] for run in runs])
        numbers[name], numbers[f"{name}_range"] = found["median"], found["range"]
    for name in ("peak_ratio", "peak_private_ratio"):
        numbers[name] = round(max(run[name] for run in runs), 3)
    return numbers


def forget(path):
    """Asks the system to drop the file from its cache."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def child(mode, path, variant):
    """Runs one of `MODES` in a new process -> what it prints as JSON in its last line."""
    return run_once("benchmarks.load_weights", "--in-child", mode, path, variant)


def save(results, numbers):
    """Replaces the numbers of this backend in the file of results."""
    known = read_results(results) | {numbers["backend"]: numbers}
    save_results(results, known, sort_keys=True)


# ---------------------------------------------------------------- what runs in a process of its own


def write(path, variant):
    """A safetensors file with random weights, in timm's names, never in memory as a whole."""
    random = np.random.default_rng(0)
    shapes = timm_shapes(variant)
    header, end = {}, 0
    for name, shape in shapes.items():
        start, end = end, end + 4 * int(np.prod(shape))
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for left in range(end // 4, 0, -CHUNK):
            file.write(random.standard_normal(min(left, CHUNK), "float32").tobytes())
        file.flush()
        os.fsync(file.fileno())
    return {"bytes": os.path.getsize(path)}


def timm_shapes(variant):
    """Returns `{name in timm: shape in PyTorch's order of axes}`."""
    from keras_convnext import VARIANTS, ConvNeXt
    from keras_convnext.pretrained.layouts import LAYOUTS

    timm = next(layout for layout in LAYOUTS if layout.name == "timm")
    model = ConvNeXt(variant)
    weights = [weight for weight in model.weights if "preprocessing" not in weight.path]
    return {
        timm.names(VARIANTS[variant], weight.path, "")[0]: torch_shape(weight) for weight in weights
    }


def torch_shape(weight):
    shape = tuple(weight.shape)
    if len(shape) == 4:
        order = (2, 3, 0, 1) if "dwconv" in weight.path else (3, 2, 0, 1)
        return [shape[axis] for axis in order]
    return list(reversed(shape))


def read(path, variant):
    with measured(path) as numbers:
        np.fromfile(path, "uint8")
    return numbers


def build(path, variant):
    convnext = warmed_up()
    with measured(path) as numbers:
        synchronise(convnext(variant))
    return numbers


def load(path, variant):
    convnext = warmed_up()
    with measured(path) as numbers:
        synchronise(convnext(variant, weights=path))
    return numbers


def warmed_up():
    """Returns `ConvNeXt` after all imports, with the backend started."""
    from keras_convnext import ConvNeXt, pretrained  # noqa: F401 the readers' imports too

    synchronise(ConvNeXt("test_convnext"))
    return ConvNeXt


def synchronise(model):
    """Waits until the weights are there: JAX returns before they are."""
    import keras

    keras.ops.convert_to_numpy(model.weights[-1])
    if keras.backend.backend() == "jax":
        import jax

        jax.block_until_ready([weight.value for weight in model.weights])


def about(path, variant):
    import keras

    backend = keras.backend.backend()
    return {"backend": backend, **machine("keras", "numpy", "safetensors", backend)}


@contextlib.contextmanager
def measured(path):
    """Fills a dict with the seconds, and with the peaks of memory per size of the file."""
    size, numbers, stop = os.path.getsize(path), {}, threading.Event()
    forget_peak()
    before = memory()
    private = [before["RssAnon"]]
    watch = threading.Thread(target=sample, args=(private, stop))
    watch.start()
    start, cpu_start = time.perf_counter(), time.process_time()
    try:
        yield numbers
        numbers["seconds"] = time.perf_counter() - start
        numbers["cpu_seconds"] = time.process_time() - cpu_start
    finally:
        stop.set()
        watch.join()
    numbers["peak_ratio"] = (memory()["VmHWM"] - before["VmRSS"]) / size
    numbers["peak_private_ratio"] = (max(private) - before["RssAnon"]) / size


def sample(private, stop):
    while not stop.wait(0.005):
        private.append(memory()["RssAnon"])


MODES = {mode.__name__: mode for mode in (write, read, build, load, about)}

if __name__ == "__main__":
    if sys.argv[1:2] == ["--in-child"]:
        print(json.dumps(MODES[sys.argv[2]](*sys.argv[3:])))
        sys.exit()
    sys.exit(main())
