"""What is said to a contact: templates, call scripts, and the message made of them."""
