"""One experiment per file; each has a `config()` that returns a `training.run.config.Config`."""
