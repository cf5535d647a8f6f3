"""Memory that the process keeps."""

import ctypes
import subprocess
import sys

import pytest

from keras_convnext import memory
from tests.backends import BACKEND, on_one_backend

STEPS = """
import resource, sys, threading
import numpy as np
from keras_convnext import keep_freed_memory

if sys.argv[1] == "keep":
    assert keep_freed_memory() is True

def step():
    np.ones(2**23)  # 64 MB

def faults(steps):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(steps):
        thread = threading.Thread(target=step)
        thread.start()
        thread.join()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults(1)
print(faults(4))
"""


@on_one_backend
@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "gnu_get_libc_version"), reason="of glibc")
def test_the_next_step_takes_the_memory_of_the_last_one():
    def faults(keep):
        command = [sys.executable, "-c", STEPS, keep]
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    assert faults("keep") * 4 < faults("give back")


@on_one_backend
@pytest.mark.parametrize("library", [None, object()])
def test_another_c_library_is_left_alone(library, monkeypatch):
    def load(name):
        if library is None:
            raise OSError("there is none")
        return library

    monkeypatch.setattr(ctypes, "CDLL", load)
    monkeypatch.setattr(memory, "jax_has_started", lambda: False)
    assert memory.keep_freed_memory() is False


@pytest.mark.skipif(BACKEND != "jax", reason="of jax")
def test_it_is_too_late_once_jax_has_started():
    import jax

    jax.devices()
    assert not memory._kept
    with pytest.raises(RuntimeError, match=r"call `keep_freed_memory\(\)` before the first model"):
        memory.keep_freed_memory()


AGAIN = """
import keras
from keras_convnext import keep_freed_memory

first = keep_freed_memory()
keras.ops.ones(2)
assert keep_freed_memory() is first
"""


@pytest.mark.skipif(BACKEND != "jax", reason="of jax")
@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "gnu_get_libc_version"), reason="of glibc")
def test_it_may_be_called_again():
    subprocess.run([sys.executable, "-c", AGAIN], check=True)
