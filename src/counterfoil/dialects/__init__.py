"""Wire languages: one folder each, `registry.py` the only list."""
