"""Types of command-line flags; a value that is not allowed ends the program with a sentence."""

import argparse


def positive(text):
    """Returns an int >= 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number >= 1")
    return int(text)


def pixels(text):
    """Returns the side of images in pixels: a multiple of 32, which every contender takes."""
    if positive(text) % 32:
        raise argparse.ArgumentTypeError(f"{text!r} is not a multiple of 32")
    return int(text)


def variant(text):
    """Returns the name of a row of `keras_convnext.VARIANTS`."""
    from keras_convnext import VARIANTS

    if text not in VARIANTS:
        raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(VARIANTS)}")
    return text
