"""Compliance reports: counted from the log, linked to its entries, and recorded in it."""
