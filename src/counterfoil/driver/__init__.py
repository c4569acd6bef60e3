"""What runs an exchange, and what it is run with: configuration, names, deployments."""
