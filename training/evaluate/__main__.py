"""`python -m training.evaluate`, see `training.evaluate.command`."""

import sys

from .command import main

sys.exit(main())
