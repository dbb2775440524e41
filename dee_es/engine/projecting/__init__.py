"""From the log to projection tables: live, by catching up, and as a rebuild beside the live one."""
