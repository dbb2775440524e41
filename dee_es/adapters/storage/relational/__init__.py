"""What the SQL backends share: statements, the commit's decisions, table declarations, lists."""
