"""Who of many contacts gets a run of a plan, and how the runs begin."""
