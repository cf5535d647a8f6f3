"""The contenders of one configuration, measured in turns."""

import contextlib
import dataclasses
import json
import math
import time

import numpy as np

from benchmarks.children import Child, Failed
from benchmarks.contenders import CONTENDERS, ENVIRONMENT, PRODUCTS

PAUSE = 0.5  # seconds before each turn, in which the threads of the turn before fall asleep
PRODUCT_STEPS = 3  # at most in a turn: a product of large matrices takes long and varies little


@dataclasses.dataclass(frozen=True)
class Plan:
    """How often and in which processes.

    Attributes:
        rounds: each contender has one turn in each.
        steps: in one turn; their median is what the turn found. Matrix products: `PRODUCT_STEPS`
            at most.
        fresh: whether each turn has a new process, so that no two are in memory at once; the
            building and compiling is then paid in each round.
        patience: seconds after which a process that does not answer is given up.
        together: whether all processes start side by side; what building and compiling cost is
            not comparable then. Not with `fresh`.
        deadline: of `time.monotonic`, in seconds: what has not started by then is a failure, and
            after the first round none begins later.
    """

    rounds: int = 5
    steps: int = 5
    fresh: bool = False
    patience: float = 3600
    together: bool = False
    deadline: float = math.inf


def measure(configuration, names, plan, say=lambda text: None):
    """Returns `{name: Turns}` of what was measured, and `{name: reason}` of what failed."""
    failures = {}
    with contextlib.ExitStack() as stack:
        turns = {name: Turns(name, configuration, plan, stack) for name in names}
        for name in names if plan.together else ():
            turns[name].spawn()
        for round_ in range(-1, plan.rounds):  # -1: all are started, each alone
            if round_ > 0 and time.monotonic() > plan.deadline:
                break
            for name in list(turns):
                try:
                    turns[name].start() if round_ < 0 else turns[name].take()
                    say(f"{'start' if round_ < 0 else round_ + 1}: {name}")
                except Failed as failure:
                    del turns[name]
                    failures[name] = str(failure)
                    say(f"{name}: {failure}")
    return turns, failures


class Turns:
    """What one contender did in its turns.

    Attributes:
        beginnings: what it cost to begin, for each process that was started.
        seconds: per step, the median of each turn.
        peak_bytes, device_peak_bytes: the greatest of all turns.
        peak_since: `"steps"`, or `"start"` where the system cannot forget what came before them.
    """

    def __init__(self, name, configuration, plan, stack):
        self.name, self.configuration, self.plan, self.stack = name, configuration, plan, stack
        self.beginnings, self.seconds = [], []
        self.peak_bytes, self.device_peak_bytes = 0, None
        self.peak_since = self.child = None

    def spawn(self):
        """Starts the process, whose beginning `start` then waits for."""
        child = process(self.name, self.configuration, self.plan.patience)
        self.child = self.stack.enter_context(child)

    def start(self):
        if not self.plan.fresh:
            self._open()

    def take(self):
        if self.plan.fresh:
            self._open()
        time.sleep(PAUSE)
        found = self.child.ask({"steps": self._steps()})
        if self.plan.fresh:
            self.child.close()
        self.seconds.append(float(np.median(found["seconds"])))
        self.peak_since = found["peak_since"]
        self.peak_bytes = max(self.peak_bytes, found["peak_bytes"])
        if found["device_peak_bytes"] is not None:
            self.device_peak_bytes = max(self.device_peak_bytes or 0, found["device_peak_bytes"])

    def _steps(self):
        steps = self.plan.steps
        return min(steps, PRODUCT_STEPS) if self.name in PRODUCTS else steps

    def _open(self):
        if not self.plan.together:
            self.spawn()
        left = max(1, self.plan.deadline - time.monotonic())
        self.child.patience = min(self.plan.patience, left)
        self.beginnings.append(self.child.ask())
        self.child.patience = self.plan.patience


def process(name, configuration, patience=Plan.patience):
    """Returns a child process whose first answer says what its start cost."""
    return Child(
        "benchmarks.contender_process",
        name,
        json.dumps(dataclasses.asdict(configuration)),
        environment=ENVIRONMENT | CONTENDERS[name].environment,
        patience=patience,
    )
