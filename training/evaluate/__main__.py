"""`python -m training.evaluate`, see `training.evaluate.command`."""

import sys

from training.evaluate.command import main

sys.exit(main())
