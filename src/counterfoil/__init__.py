"""Counterfoil: an LLM gateway that keeps exact books.

Bytes become frames, frames become events, events carry readings, readings settle into usage, usage becomes one ledger
entry per attempt. Everything that touches a socket, a clock, a disk or a secret stands outside that sentence.
"""

__all__ = ["__version__"]

__version__ = "0.1.0"
