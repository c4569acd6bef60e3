"""Every official client in front of every dialect of a provider: a matrix a module, a line a client in the output."""
