"""The Interactions API, as far as it is metered."""
