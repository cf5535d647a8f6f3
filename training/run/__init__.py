"""What every training has, whatever it learns: configuration, loop, checkpoints, log, record."""
