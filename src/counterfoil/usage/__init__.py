"""Counting: what a provider said (`reading`), what it amounts to (`usage`), and the one door between (`settle`)."""
