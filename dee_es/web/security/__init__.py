"""What stands between a socket and a handler; each file one check, none of them optional."""
