"""Measures trained and published classifiers on labelled images."""
