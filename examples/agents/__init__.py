"""Custom agents, one a file."""
