"""The application that trains ConvNeXts: `python -m training.train --config digits`."""

import os

# TensorFlow tells how it was built, and prints tracebacks of what our readers handle. What it
# raises is not affected.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# TensorFlow takes oneDNN by itself only on the newest processors; others train faster with it, too
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
