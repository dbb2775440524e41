"""Which runs are due, what they may do, and how it is sent."""
