"""Promises of the Responses dialect."""
