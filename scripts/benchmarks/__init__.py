"""Measurements of the engine, each on a database of its own."""
