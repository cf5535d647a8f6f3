"""The training of classifiers: what differs from that of other tasks."""
