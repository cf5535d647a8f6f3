"""The application that trains ConvNeXts: `python -m training.train --config digits`."""
