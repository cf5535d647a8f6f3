"""The tasks that can be trained, and what differs between them."""
