"""The clients of Node.js in front of every dialect of a provider: a program a client, a line a client in the output."""
