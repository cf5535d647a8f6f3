"""The experiments, one file each, in a folder per task."""
