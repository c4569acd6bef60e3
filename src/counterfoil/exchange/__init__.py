"""One client call without IO. See README.md."""
