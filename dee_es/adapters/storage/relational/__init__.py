"""What the SQL backends share: relations and statements, the commit's decisions, projection tables,
lists."""
