"""The task of segmentation."""
