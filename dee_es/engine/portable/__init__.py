"""One run as a file, out of one database and into another."""
