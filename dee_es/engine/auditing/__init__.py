"""Evidence: the audit trail, and whether the log still is what was written."""
