"""What proves the log: its chains, its tree, and signed texts about it."""
