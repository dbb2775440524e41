"""What the hardware and the database allow: the same bytes without anything that decides."""
