"""`python -m keras_convnext.cli` runs the command `keras-convnext`."""

import sys

from keras_convnext.cli.main import main

sys.exit(main())
