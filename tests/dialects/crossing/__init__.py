"""The grid of crossings: what each client's wish becomes for each provider, kept as text that can be read."""
