"""Where entries and prices are kept: journals, databases, files. IO is allowed here; see the README for the law."""
