"""The training of segmentation: what differs from that of classifiers."""
