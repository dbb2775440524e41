"""A run decided again: from its own log, or ahead of its time."""
