"""What has to stay and what may leave: legal holds, archives, and the erasure of contacts."""
