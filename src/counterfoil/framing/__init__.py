"""Framing: bytes to frames and nothing of what they mean. It imports nothing of ours."""
