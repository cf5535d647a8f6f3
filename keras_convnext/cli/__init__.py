"""The command `keras-convnext`: one file per command, with its flags and its work."""

from keras_convnext.cli.main import main as main
