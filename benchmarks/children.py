"""Child processes for what is measured: one per run, or one that answers requests.

What runs in them prints JSON, one line each.
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

ROOT = Path(__file__).parents[1]
GRACE = 10  # seconds that a child has for ending


def run_once(module, *arguments):
    """Runs `python -m module ARGUMENTS` to its end -> what its last line says.

    Raises:
        subprocess.CalledProcessError: if it ends with another status than 0.
    """
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


class Failed(Exception):
    """A child said, or showed by its end, that it cannot answer; the message is a sentence."""


class Child:
    """`python -m module ARGUMENTS` that stays and answers each line of its input by one line.

    Args:
        module: what to run.
        arguments: strings.
        environment: variables that it has beside those of this process.
        patience: seconds after which an answer is no longer waited for.
        python: path of the interpreter; default: that of this process.

    Raises:
        Failed: if the interpreter cannot be started.
    """

    def __init__(self, module, *arguments, environment=(), patience=3600, python=sys.executable):
        self.patience, self.overdue = patience, False
        self.errors = tempfile.TemporaryFile(mode="w+", errors="replace")
        try:
            self.process = subprocess.Popen(
                [python, "-m", module, *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self.errors,
                text=True,
                cwd=ROOT,
                env=os.environ | dict(environment),
            )
        except OSError as error:
            raise Failed(f"{python} cannot be started: {error.strerror or error}") from error

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()

    def ask(self, request=None):
        """Sends the request, if there is one -> the next answer.

        Raises:
            Failed: if the answer is `{"failed": sentence}`, or none comes.
        """
        timer = threading.Timer(self.patience, self._give_up)
        timer.start()
        try:
            if request is not None:
                self.process.stdin.write(json.dumps(request) + "\n")
                self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        finally:
            timer.cancel()
        answer = json.loads(line) if line else {"failed": self._last_words()}
        if "failed" in answer:
            self.close()
            raise Failed(answer["failed"])
        return answer

    def close(self):
        """The end of its input is the child's reason to end; what does not, is killed."""
        with contextlib.suppress(BrokenPipeError):  # a request that nobody reads any more
            self.process.stdin.close()
        try:
            self.process.wait(GRACE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        self.errors.close()

    def _give_up(self):
        self.overdue = True
        self.process.kill()

    def _last_words(self):
        status = self.process.wait()
        if self.overdue:
            return f"no answer within {self.patience:g} seconds"
        if status < 0:
            return f"ended by signal {-status}" + (", as for want of memory" * (status == -9))
        self.errors.seek(0)
        lines = [line.strip() for line in self.errors if line.strip()]
        return lines[-1] if lines else f"ended with status {status}"


def answer_of(module, *arguments, environment=()):
    """Returns the one answer of a child, or `{"failed": sentence}`."""
    try:
        with Child(module, *arguments, environment=environment) as child:
            return child.ask()
    except Failed as failure:
        return {"failed": str(failure)}
