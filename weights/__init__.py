"""How pretrained weights are converted, proven equal and measured. See README.md beside it."""
