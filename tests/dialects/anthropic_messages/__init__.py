"""Promises of the Anthropic messages dialect."""
