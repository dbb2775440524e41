"""The language of conditions: from text to tree to value."""
