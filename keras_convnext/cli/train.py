"""`train`: a model from photos of one's own, or an experiment of the paper."""

from keras_convnext.cli import trainer


def add_parser(commands):
    trainer.add_parser(commands, "train", run, "train on photos of your own, and record the run")


def run(arguments):
    code = trainer.answer("train", arguments)
    if code > 128:  # stopped by a signal: nothing may delay the exit
        trainer.module("run.course").leave(code)
    return code
