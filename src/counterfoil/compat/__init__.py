"""The way over from other libraries: their names, on our core.

Rule: a name that is offered here means what it means there. What has no meaning here is refused, never ignored.
"""
