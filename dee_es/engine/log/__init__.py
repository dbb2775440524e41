"""How events get into the log and out of it again."""
