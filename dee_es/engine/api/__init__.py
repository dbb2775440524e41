"""The methods users call, a group a file: each checks its input and hands it to a service."""
