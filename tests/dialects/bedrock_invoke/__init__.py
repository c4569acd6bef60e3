"""Bedrock's invoke: the bodies of many makers. The text in here is invented."""
