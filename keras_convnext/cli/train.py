"""`train`: a model from photos of one's own, or an experiment of the paper."""

from keras_convnext.cli import trainer


def add_parser(commands):
    trainer.add_parser(commands, "train", run, "train on photos of your own, and record the run")


def run(arguments):
    main, course = trainer.module("train").main, trainer.module("run.course")
    with trainer.module("run.shell").as_installed_command():
        code = main(arguments.rest)
    if code > 128:  # stopped by a signal: nothing may delay the exit
        course.leave(code)
    return code
