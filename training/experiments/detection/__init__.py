"""Detectors: one experiment per file, with a `config()` that returns a `DetectConfig`."""
