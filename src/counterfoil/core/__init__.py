"""The words every dialect speaks: messages, operations, events, errors; and estimates of what nobody counted."""
