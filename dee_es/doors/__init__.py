"""What several doors share: the shell and the HTTP API read contacts files the same way."""
