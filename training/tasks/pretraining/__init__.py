"""The task of pre-training without labels."""
