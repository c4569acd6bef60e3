"""Gemini, as Google and Vertex speak it."""
