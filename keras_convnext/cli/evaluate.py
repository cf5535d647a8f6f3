"""`evaluate`: how good a trained or published model is on labelled images."""

from keras_convnext.cli import trainer


def add_parser(commands):
    help = "measure a trained or published model on labelled images"
    trainer.add_parser(commands, "evaluate", run, help)


def run(arguments):
    main = trainer.module("evaluate.command").main
    with trainer.module("run.shell").as_installed_command():
        return main(arguments.rest)
