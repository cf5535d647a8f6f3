"""The devices of a run: one, all of a machine, or several processes.

    --distribute auto         all devices of this machine, and the processes that the surroundings
                              announce (TF_CONFIG; KERAS_DISTRIBUTION_*; torchrun)
    --distribute none         one device
    --distribute mirrored     all devices of this machine
    --distribute multiworker  several processes, each with its devices
    --distribute tpu          a TPU

TensorFlow goes through `tf.distribute`, JAX through `keras.distribution.DataParallel`, PyTorch
through an all-reduce of the gradients between the processes that `torchrun` starts (one device
each). What a backend cannot do is refused; a run never falls back to a single device silently.

Batch normalization (of UperNets and cascades) takes its statistics over the whole batch on
TensorFlow and JAX. Keras does not synchronise it on PyTorch: each process takes them over its own
images, which a run says before it starts.

Every process reads the whole list of examples and computes its own contiguous part of each batch,
so a batch holds the same images however many devices share it.
"""

import contextlib
import dataclasses
import importlib.metadata
import importlib.util
import json
import os

import keras

from keras_convnext import memory

from . import shell

BACKEND = keras.backend.backend


class DistributionError(ValueError):
    """The asked distribution is not possible here; says what is."""


@dataclasses.dataclass(frozen=True)
class Distribution:
    """The devices of a run. Made by `start`, once, before anything else is computed.

    Attributes:
        kind: of the distribution, in words.
        replicas: devices that share a batch, over all processes.
        worker, workers: number of this process, and how many there are.
        strategy: of `tf.distribute`, or `None`.
    """

    kind: str
    replicas: int = 1
    worker: int = 0
    workers: int = 1
    strategy: object = None

    @property
    def is_chief(self):
        """Whether this process writes the record."""
        return self.worker == 0

    def scope(self):
        """Model and optimizer are made inside of it."""
        return self.strategy.scope() if self.strategy else contextlib.nullcontext()

    @property
    def part(self):
        """`(worker, workers)`, or `None` for one process: what `training.data.stream` takes."""
        return (self.worker, self.workers) if self.workers > 1 else None

    def dataset(self, batches):
        """Returns what `fit` takes, of a tf.data.Dataset of this process' parts of the batches."""
        if not self.strategy or self.workers == 1:
            return batches
        per_process = self.replicas // self.workers
        if per_process > 1:
            import tensorflow as tf

            images = tf.nest.flatten(batches.element_spec)[0].shape[0]
            batches = batches.rebatch(images // per_process)
        return self.strategy.distribute_datasets_from_function(lambda context: batches)

    def wait_for_all(self):
        """Returns when every process of the run has come here."""
        self.any(False)

    def any(self, flag):
        """Returns whether `flag` is true in any process; all must ask at the same moment."""
        if self.workers == 1:
            return flag
        sums = {"tensorflow": _tf_sum, "jax": _jax_sum, "torch": _torch_sum}
        return bool(sums[BACKEND()](self, float(flag)))

    def check(self, batch):
        """Raises a DistributionError if a batch of `batch` images cannot be shared equally."""
        if batch % self.replicas:
            raise DistributionError(
                f"A batch of {batch} images cannot be shared by {self.replicas} devices: choose a "
                f"multiple of {self.replicas} (--batch_size, --gradient_accumulation)."
            )


def start(kind):
    """Sets up the devices and returns the Distribution.

    Args:
        kind: `"auto"`, `"none"`, `"mirrored"`, `"multiworker"` or `"tpu"`.

    Raises:
        DistributionError: if the backend or this machine cannot do that.
    """
    return {"tensorflow": _tensorflow, "jax": _jax, "torch": _torch}[BACKEND()](kind)


def keep_memory():
    """Lets JAX keep memory from step to step on a CPU; it must not have looked for devices yet."""
    accelerators = importlib.metadata.entry_points(group="jax_plugins")
    on_cpu = not accelerators and importlib.util.find_spec("libtpu") is None
    if BACKEND() == "jax" and on_cpu and not memory.jax_has_started():
        memory.keep_freed_memory()


def is_on_cpu():
    """Returns whether a run has no accelerator; `False` where its processes have to be connected
    first to know."""
    if BACKEND() == "torch":
        import torch

        return not torch.cuda.is_available()
    if BACKEND() == "jax":
        import jax

        several = int(os.environ.get("KERAS_DISTRIBUTION_NUM_PROCESSES", "1")) > 1
        return not several and jax.default_backend() == "cpu"
    import tensorflow as tf

    kinds = {device.device_type for device in tf.config.list_physical_devices()}
    return kinds == {"CPU"}


# ---------------------------------------------------------------------------- TensorFlow


def _tensorflow(kind):
    import tensorflow as tf

    cluster = json.loads(os.environ.get("TF_CONFIG", "{}")).get("cluster", {})
    announced = len(cluster.get("worker", ()))
    if kind == "multiworker" or (kind == "auto" and announced > 1):
        return _multiworker(tf, announced)
    if kind == "tpu":
        return _tpu(tf)
    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    if kind == "none" or (kind == "auto" and len(devices) == 1):
        return Distribution(f"one {devices[0].device_type}")
    strategy = tf.distribute.MirroredStrategy([device.name for device in devices])
    return Distribution(
        f"MirroredStrategy on {len(devices)} {devices[0].device_type}s",
        strategy.num_replicas_in_sync,
        strategy=strategy,
    )


def _multiworker(tf, announced):
    if not announced:
        raise DistributionError(
            "--distribute=multiworker on TensorFlow needs the environment variable TF_CONFIG, in "
            'each process: {"cluster": {"worker": ["host0:port", "host1:port"]}, "task": {"type": '
            '"worker", "index": 0}}.'
        )
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    return Distribution(
        f"MultiWorkerMirroredStrategy on {announced} processes",
        strategy.num_replicas_in_sync,
        strategy.cluster_resolver.task_id,
        announced,
        strategy,
    )


def _tpu(tf):
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver()
        tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
    except (ValueError, RuntimeError, OSError, tf.errors.OpError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DistributionError(
            f"--distribute=tpu found no TPU ({reason}). Set TPU_NAME, or choose another of auto, "
            "none, mirrored, multiworker."
        ) from error
    strategy = tf.distribute.TPUStrategy(resolver)
    return Distribution("TPUStrategy", strategy.num_replicas_in_sync, strategy=strategy)


# ---------------------------------------------------------------------------- JAX


def _jax(kind):
    import jax

    announced = int(os.environ.get("KERAS_DISTRIBUTION_NUM_PROCESSES", "1"))
    if kind == "multiworker" or (kind == "auto" and announced > 1):
        if announced < 2:
            raise DistributionError(
                "--distribute=multiworker on JAX needs, in each process, the environment "
                "variables KERAS_DISTRIBUTION_JOB_ADDRESSES=host0:port, "
                "KERAS_DISTRIBUTION_NUM_PROCESSES and KERAS_DISTRIBUTION_PROCESS_ID."
            )
        keras.distribution.initialize()
    devices = jax.devices()
    if kind == "tpu" and devices[0].platform != "tpu":
        raise DistributionError(
            f"--distribute=tpu found no TPU, only {devices[0].platform}: choose another of auto, "
            "none, mirrored, multiworker."
        )
    if kind == "none" or (kind == "auto" and len(devices) == 1):
        return Distribution(f"one {devices[0].platform}")
    # each process feeds its own part of a batch, so Keras must not cut it once more
    parallel = keras.distribution.DataParallel(auto_shard_dataset=False)
    keras.distribution.set_distribution(parallel)
    kind = f"DataParallel on {len(devices)} {devices[0].platform} devices"
    return Distribution(kind, len(devices), jax.process_index(), jax.process_count())


# ---------------------------------------------------------------------------- PyTorch


def _torch(kind):
    import torch

    announced = int(os.environ.get("WORLD_SIZE", "1"))
    if kind in ("multiworker", "auto") and announced > 1:
        return _torch_processes(torch, announced)
    count = torch.cuda.device_count()
    if kind == "none" or (kind == "auto" and count < 2):
        return Distribution("one GPU" if count else "one CPU")
    raise DistributionError(
        f"--distribute={kind} on PyTorch ({count} GPUs): Keras cannot share a batch among devices "
        "of one process there. Start one process for each device, `torchrun --nproc_per_node="
        f"{max(count, 2)} -m {shell.PACKAGE}.train ...`, or choose --distribute=none for one "
        "device."
    )


def _torch_processes(torch, announced):
    on_gpus = torch.cuda.is_available()
    if on_gpus:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group("nccl" if on_gpus else "gloo")
    rank = torch.distributed.get_rank()
    return Distribution(f"all-reduce between {announced} processes", announced, rank, announced)


# ---------------------------------------------------------------------------- agreeing


def _tf_sum(distribution, value):
    import tensorflow as tf

    strategy = distribution.strategy
    return strategy.reduce("SUM", strategy.run(lambda: tf.constant(value)), axis=None).numpy()


def _jax_sum(distribution, value):
    import numpy as np
    from jax.experimental import multihost_utils

    return multihost_utils.process_allgather(np.float32(value)).sum()


def _torch_sum(distribution, value):
    import torch

    value = torch.tensor(value, device=keras.ops.zeros(()).device)
    torch.distributed.all_reduce(value)
    return value.item()
