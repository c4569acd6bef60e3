"""The same core without a server: one exchange a call, and replies in the shape people know."""
