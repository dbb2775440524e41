"""A run as it was: told, explained, shown at any moment, decided again."""
