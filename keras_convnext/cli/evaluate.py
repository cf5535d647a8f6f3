"""`evaluate`: how good a trained or published model is on labelled images."""

from keras_convnext.cli import trainer


def add_parser(commands):
    help = "measure a trained or published model on labelled images"
    trainer.add_parser(commands, "evaluate", run, help)


def run(arguments):
    return trainer.answer("evaluate.command", arguments)
