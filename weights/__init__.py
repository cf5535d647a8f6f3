"""Converts, proves and measures the published weights. See README.md beside it."""
