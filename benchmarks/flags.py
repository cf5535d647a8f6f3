"""Types of command-line flags; a value that is not allowed ends the program with a sentence."""

import argparse


def positive(text):
    """-> an int >= 1"""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number >= 1")
    return int(text)


def pixels(text):
    """-> height and width of images, a multiple of 32 as every stage of every contender needs"""
    if positive(text) % 32:
        raise argparse.ArgumentTypeError(f"{text!r} is not a multiple of 32")
    return int(text)


def variant(text):
    """-> the name of a row of `keras_convnext.VARIANTS`"""
    from keras_convnext import VARIANTS

    if text not in VARIANTS:
        raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(VARIANTS)}")
    return text
