"""What attempts cost and how that is kept. See README.md."""
