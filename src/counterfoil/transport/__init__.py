"""The only openers of provider sockets, and the keepers of secrets."""
