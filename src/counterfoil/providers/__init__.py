"""Who speaks which dialect, where: `providers.toml` and what reads it."""
