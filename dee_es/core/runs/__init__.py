"""The run: how its events fold to a state, and what it decides."""
