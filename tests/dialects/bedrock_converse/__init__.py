"""Bedrock's Converse: replies, usage, failures and requests. The text in here is invented."""
