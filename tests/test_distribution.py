"""Runs that are shared by devices or processes end where a run on one device ends."""

import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from keras_convnext.detection import MaskRCNN
from keras_convnext.fast import conditions
from tests import tiny_detector
from tests.backends import BACKEND
from tests.test_resume import wait_for
from training.run import checkpoint, distribution, replicas

ROOT = Path(__file__).parents[1]
COMMAND = (
    "--config=digits --epochs=1 --warmup_epochs=0.5 --batch_size=70 --ema_momentum=0.9 "
    "--drop_path_rate=0 --tensorboard=false"
).split()
STEPS = 1437 // 70
DIVIDED = """
import sys, tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from training import train
sys.exit(train.main())
"""


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def surroundings():
    """Returns the environment of each of two processes on this machine, by backend."""
    first, second = free_ports(2)
    if BACKEND == "tensorflow":
        hosts = [f"127.0.0.1:{port}" for port in (first, second)]
        tasks = [{"type": "worker", "index": index} for index in range(2)]
        return [
            {"TF_CONFIG": json.dumps({"cluster": {"worker": hosts}, "task": task})}
            for task in tasks
        ]
    if BACKEND == "jax":
        return [
            {
                "KERAS_DISTRIBUTION_JOB_ADDRESSES": f"127.0.0.1:{first}",
                "KERAS_DISTRIBUTION_NUM_PROCESSES": "2",
                "KERAS_DISTRIBUTION_PROCESS_ID": str(index),
            }
            for index in range(2)
        ]
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(first), "WORLD_SIZE": "2"}
    return [address | {"RANK": str(index), "LOCAL_RANK": str(index)} for index in range(2)]


def start(output, kind, environment=None, program=("-m", "training.train"), command=COMMAND):
    return subprocess.Popen(
        [sys.executable, *program, *command, f"--distribute={kind}", f"--output={output}"],
        cwd=ROOT,
        # the same form of the convolution, which the number of devices would change
        env={
            **os.environ,
            "TF_CPP_MIN_LOG_LEVEL": "3",
            conditions.PIN: "portable",
            **(environment or {}),
        },
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def outcome(output, *runs):
    """Waits -> (weights and averages, the epoch's row of the log)."""
    for run in runs:
        _, errors = run.communicate(timeout=400)
        assert run.returncode == 0, errors[-3000:]
    (folder,) = output.iterdir()
    (row,) = (json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines())
    saved = load_file(folder / "checkpoints" / f"step-{STEPS:08d}" / checkpoint.STATE)
    kept = {n: a for n, a in saved.items() if a.dtype == "float32" and "metrics/" not in n}
    return kept, row


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    output = tmp_path_factory.mktemp("alone")
    return outcome(output, start(output, "none"))


def assert_close(shared, alone):
    """20 steps: what rounding in another order amounts to by then."""
    for key in ("loss", "accuracy", "val_loss", "val_accuracy"):
        assert shared[1][key] == pytest.approx(alone[1][key], rel=1e-5)
    assert shared[0].keys() == alone[0].keys()
    for name, expected in alone[0].items():
        scale = max(np.abs(expected).max(), 1e-3)
        assert np.abs(shared[0][name] - expected).max() <= 1e-5 * scale, name


@pytest.mark.slow
@pytest.mark.skipif(BACKEND == "torch", reason="one device per process there")
def test_two_devices(tmp_path, alone):
    if BACKEND == "tensorflow":
        run = start(tmp_path, "mirrored", program=("-c", DIVIDED))
    else:
        run = start(tmp_path, "mirrored", {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"})
    assert_close(outcome(tmp_path, run), alone)


@pytest.mark.slow
def test_two_processes_of_which_one_is_stopped(tmp_path, alone):
    """They stop together at the end of a batch, and go on together."""
    often = [*COMMAND, "--checkpoint_steps=4"]
    runs = [start(tmp_path, "multiworker", each, command=often) for each in surroundings()]
    wait_for(lambda: list(tmp_path.glob("*/checkpoints/step-*")), runs[1])
    runs[1].send_signal(signal.SIGTERM)
    for run in runs:
        _, errors = run.communicate(timeout=120)
        assert run.returncode == 143, errors[-3000:]
    again = [*often, "--resume=auto"]
    runs = [start(tmp_path, "multiworker", each, command=again) for each in surroundings()]
    assert_close(outcome(tmp_path, *runs), alone)


# What each of two replicas keeps of a batch, printed as JSON, a line for each call.
MASKS = {
    "tensorflow": """
import json, tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from keras_convnext.layers import StochasticDepth
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
with strategy.scope():
    layer = StochasticDepth(0.5, seed=1)
call = tf.function(lambda: layer(tf.ones((64, 1)), training=True)[:, 0])
for _ in range(2):
    print(json.dumps([part.numpy().tolist() for part in strategy.run(call).values]))
""",
    "jax": """
import json, jax, keras
keras.distribution.set_distribution(keras.distribution.DataParallel())
from keras_convnext.layers import StochasticDepth
layer = StochasticDepth(0.5, seed=1)
class Dropping(keras.Model):
    def call(self, x):
        return layer(x, training=True)
kept = Dropping().predict(keras.ops.ones((128, 1)), 128, verbose=0)
print(json.dumps(kept.reshape(2, 64).tolist()))
""",
    "torch": """
import json, keras, torch
torch.distributed.init_process_group("gloo")
from keras_convnext.layers import StochasticDepth
layer = StochasticDepth(0.5, seed=1)
for _ in range(2):
    mine = layer(keras.ops.ones((64, 1)), training=True)[:, 0].cpu()
    parts = [torch.empty(64), torch.empty(64)]
    torch.distributed.all_gather(parts, mine)
    print(json.dumps([part.tolist() for part in parts]))
""",
}


def test_replicas_drop_different_samples():
    """Equal masks would halve what stochastic depth regularises; equal steps would freeze it."""
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    places = surroundings() if BACKEND == "torch" else [flags]
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", MASKS[BACKEND]],
            cwd=ROOT,
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **place},
            stdout=subprocess.PIPE,
            text=True,
        )
        for place in places
    ]
    (printed, *_) = [run.communicate(timeout=120)[0] for run in runs]
    masks = np.array([json.loads(line) for line in printed.splitlines()])
    assert masks.shape[1:] == (2, 64) and set(masks.ravel()) == {0.0, 2.0}
    drawn = masks.reshape(-1, 64)
    assert len({row.tobytes() for row in drawn}) == len(drawn)
    assert (abs((drawn > 0).mean(axis=1) - 0.5) < 0.25).all()


# The moving statistics of two replicas that see a half of a batch each, of which some boxes count.
STATISTICS = {
    "tensorflow": """
import json, numpy as np, tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from keras_convnext.layers import ConvNormReLU
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
with strategy.scope():
    layer = ConvNormReLU(2, 1)
    layer.build((None, 3, 3, 2))
    layer.conv.kernel.assign(np.eye(2).reshape(1, 1, 2, 2))
batch, used = np.load("batch.npz").values()
parts = [np.split(array, 2) for array in (batch, used)]
value = lambda part: strategy.experimental_distribute_values_from_function(
    lambda context: tf.constant(part[context.replica_id_in_sync_group]))
call = tf.function(lambda x, used: layer(x, training=True, used=used))
strategy.run(call, (value(parts[0]), value(parts[1])))
print(json.dumps([x.numpy().tolist() for x in (layer.bn.moving_mean, layer.bn.moving_variance)]))
""",
    "jax": """
import json, keras, numpy as np
keras.distribution.set_distribution(keras.distribution.DataParallel())
from keras_convnext.layers import ConvNormReLU
layer = ConvNormReLU(2, 1)
layer.build((None, 3, 3, 2))
layer.conv.kernel.assign(np.eye(2).reshape(1, 1, 2, 2))
class Training(keras.Model):
    def call(self, inputs):
        return layer(inputs["x"], training=True, used=inputs["used"])
    def compute_loss(self, x, y, y_pred, sample_weight, training=True):
        return keras.ops.mean(y_pred)
model = Training()
model.layer = layer
model.compile(keras.optimizers.SGD(0.0))
batch, used = np.load("batch.npz").values()
model.fit({"x": batch, "used": used}, batch_size=len(batch), verbose=0)
print(json.dumps([x.numpy().tolist() for x in (layer.bn.moving_mean, layer.bn.moving_variance)]))
""",
}


@pytest.mark.slow
@pytest.mark.skipif(BACKEND == "torch", reason="Keras does not synchronise it there, which is said")
def test_batch_normalization_sees_the_whole_batch(tmp_path):
    """Where some boxes do not count, too, more of them in one replica than in the other."""
    batch = np.random.default_rng(0).normal(3, 2, (8, 3, 3, 2)).astype("float32")
    used = np.array([True, False, False, False, True, True, True, True])
    np.savez(tmp_path / "batch.npz", batch=batch, used=used)
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=2", "PYTHONPATH": str(ROOT)}
    printed = subprocess.run(
        [sys.executable, "-c", STATISTICS[BACKEND]],
        cwd=tmp_path,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **flags},
        stdout=subprocess.PIPE,
        check=True,
    ).stdout
    mean, variance = batch[used].mean((0, 1, 2)), batch[used].var((0, 1, 2))
    expected = [0.1 * mean, 0.9 + 0.1 * variance]
    np.testing.assert_allclose(json.loads(printed), expected, rtol=1e-5)


@pytest.mark.skipif(BACKEND != "torch", reason="the others synchronise it")
def test_batch_normalization_of_several_processes_is_said():
    two = distribution.Distribution("two processes", replicas=2, workers=2)
    settings = dataclasses.replace(tiny_detector.SETTINGS, box_convolutions=2)
    with pytest.warns(UserWarning, match="The 2 layers of batch normalization take .* PyTorch"):
        replicas.training_model(MaskRCNN(tiny_detector.VARIANT, settings=settings), two)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        replicas.training_model(tiny_detector.build(), two)
        other = dataclasses.replace(two, worker=1)
        replicas.training_model(MaskRCNN(tiny_detector.VARIANT, settings=settings), other)


@pytest.mark.skipif(BACKEND != "torch", reason="the others can share a batch in one process")
def test_pytorch_refuses_what_keras_cannot_do():
    for kind in ("mirrored", "tpu", "multiworker"):
        with pytest.raises(distribution.DistributionError, match="torchrun"):
            distribution.start(kind)


def test_a_batch_that_cannot_be_shared_is_refused():
    with pytest.raises(distribution.DistributionError, match="multiple of 3"):
        distribution.Distribution("three", replicas=3).check(64)
