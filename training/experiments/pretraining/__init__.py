"""Experiments with pre-training without labels."""
