"""`check`: are all photos of a data set readable?"""

from keras_convnext.cli import trainer


def add_parser(commands):
    help = "read every photo of a data set before a training, and list the bad ones"
    trainer.add_parser(commands, "check", run, help)


def run(arguments):
    return trainer.answer("verify_data", arguments)
