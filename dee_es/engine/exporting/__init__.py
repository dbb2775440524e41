"""Evidence that leaves the database: exports and bundles that others can verify without it."""
