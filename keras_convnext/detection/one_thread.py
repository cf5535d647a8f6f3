"""One thread for many small operations of PyTorch.

Two threads would wait for each other longer than they compute, and for milliseconds each time where
the machine has other work: on two cores that others used too, the suppression of 4096 boxes took
919 ms of the processor with two threads and 111 ms with one.
"""

import contextlib


@contextlib.contextmanager
def one_thread():
    """Lets PyTorch compute with one thread on CPUs, as a context or a decorator."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
