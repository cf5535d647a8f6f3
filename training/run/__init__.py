"""The parts of every training: configuration, loop, checkpoints, log, record."""
