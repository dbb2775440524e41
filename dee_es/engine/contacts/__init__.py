"""What concerns a contact and not one run: suppression, consent, and what channels report."""
