"""`python -m training.evaluate`, see `training.evaluate.trained`."""

import sys

from training.evaluate.trained import main

sys.exit(main())
