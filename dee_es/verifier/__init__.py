"""The program that verifies exports without this project; it stands alone and imports nothing."""
