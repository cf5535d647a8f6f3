"""Measurements that the project's claims rest on; each writes what it found under `results/`."""
