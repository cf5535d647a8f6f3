"""A killed run resumes as if nothing had happened: weights, averages and log equal to the bit."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from tests.backends import on_one_backend, proven_on_one
from training.run import checkpoint

ROOT = Path(__file__).parents[1]
ONE_EPOCH = 11  # steps
COMMAND = (
    "--config=digits --epochs=2 --warmup_epochs=0.5 --batch_size=128 --ema_momentum=0.9 "
    "--augmentation=exact --mixup=0.8 --cutmix=1.0 --erase=0.25 --flip=0.5 --crop_scale=0.5,1 "
    "--drop_path_rate=0.2 --checkpoint_steps=2 --tensorboard=false"
).split()


def start(output, *arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "training.train", *COMMAND, f"--output={output}", *arguments],
        cwd=ROOT,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(run):
    _, errors = run.communicate(timeout=300)
    return run.returncode, errors


def wait_for(found, run, seconds=240):
    """Polls until `found()`; the time between two polls is short enough to meet a write."""
    deadline = time.monotonic() + seconds
    while not found():
        assert run.poll() is None, run.stderr.read()[-2000:]
        assert time.monotonic() < deadline, "nothing was written"
        time.sleep(2e-4)


def outcome(output):
    """Returns the variables and the log of the run under `output`, without its times."""
    (folder,) = Path(output).iterdir()
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    log = [{key: value for key, value in row.items() if key != "seconds"} for row in rows]
    last = folder / "checkpoints" / f"step-{2 * ONE_EPOCH:08d}"
    assert checkpoint.damage(last) is None
    variables = load_file(last / checkpoint.STATE)
    return {name: array.tobytes() for name, array in variables.items()}, log


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    output = tmp_path_factory.mktemp("uninterrupted")
    code, errors = finish(start(output))
    assert code == 0, errors[-2000:]
    return outcome(output)


def assert_equal(output, uninterrupted):
    variables, log = outcome(output)
    expected, expected_log = uninterrupted
    assert log == expected_log
    assert variables.keys() == expected.keys()
    assert [name for name in expected if variables[name] != expected[name]] == []


@proven_on_one
def test_killed_while_writing_and_at_the_end_of_an_epoch(tmp_path, uninterrupted):
    run = start(tmp_path)
    wait_for(lambda: list(tmp_path.glob("*/checkpoints/step-00000004")), run)
    wait_for(lambda: list(tmp_path.glob("*/checkpoints/.tmp-*")), run)
    run.kill()
    assert finish(run)[0] == -signal.SIGKILL
    run = start(tmp_path, "--resume=auto")
    # the row in the log belongs to this checkpoint
    wait_for(lambda: list(tmp_path.glob(f"*/checkpoints/step-{ONE_EPOCH:08d}")), run)
    run.kill()
    assert finish(run)[0] == -signal.SIGKILL
    code, errors = finish(start(tmp_path, "--resume=auto"))
    assert code == 0, errors[-2000:]
    assert_equal(tmp_path, uninterrupted)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "status"),
    # the one handler of both has nothing of the backend
    [(signal.SIGTERM, 143), pytest.param(signal.SIGINT, 130, marks=on_one_backend)],
)
def test_stopped_by_a_signal(number, status, tmp_path, uninterrupted):
    run = start(tmp_path)
    wait_for(lambda: list(tmp_path.glob("*/checkpoints/step-00000002")), run)
    run.send_signal(number)
    code, errors = finish(run)
    assert code == status and "--resume=auto" in errors and "Traceback" not in errors
    code, errors = finish(start(tmp_path, "--resume=auto"))
    assert code == 0, errors[-2000:]
    assert_equal(tmp_path, uninterrupted)
