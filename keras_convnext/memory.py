"""Memory of the process that the C library keeps from one step to the next."""

import ctypes
import sys

# parameters of glibc's mallopt(3)
ARENAS, MAPPED, TRIM = -8, -4, -1
SETTINGS = {  # together: each alone changes little
    ARENAS: 1,  # one heap for all threads: further ones give large blocks back all the same
    MAPPED: 0,  # large blocks are no mappings of their own, which are given back when freed
    TRIM: -1,  # nothing is given back at the end of the heap
}
_kept = []  # has an entry once the settings are made


def keep_freed_memory():
    """Lets the C library keep freed memory for the next step, in place of giving it to the system.

    JAX, and TensorFlow where it does not use oneDNN, allocate the memory of a step anew each time,
    and the system fills it with zeros, page by page, which shows in the time of a training step on
    a CPU (`benchmarks/results/speed_avx2.md`). PyTorch gains nothing. The process then holds what
    it needed at most, and needs more at times: 2.7 in place of 2.1 GB for Tiny there.
    This is for the whole process and cannot be undone: call it in a script that trains, right after
    the imports. The trainer does so with JAX on a CPU.

    Returns:
        `True` if the C library took the settings (on TensorFlow they bring little once it has
        computed something); `False` if it is not glibc (Linux), and nothing changes.

    Raises:
        RuntimeError: if JAX has started its threads before the first call: each of them would keep
            memory of its own.

    Example:
        import keras
        from keras_convnext import keep_freed_memory
        keep_freed_memory()  # before the first model or tensor
    """
    if not _kept and jax_has_started():
        raise RuntimeError(
            "JAX has started its threads, each of which would keep memory of its own: call "
            "`keep_freed_memory()` before the first model or tensor, right after the imports."
        )
    return _set()


def jax_has_started():
    """Returns whether JAX has opened its devices."""
    bridge = sys.modules.get("jax._src.xla_bridge")
    asks = getattr(bridge, "backends_are_initialized", None)
    return bool(asks and asks())


def _set():
    try:
        library = ctypes.CDLL(None)
    except (OSError, TypeError):  # Windows
        return False
    if not hasattr(library, "gnu_get_libc_version"):
        return False
    done = all([library.mallopt(name, value) == 1 for name, value in SETTINGS.items()])
    if done:
        _kept.append(True)
    return done
