"""Tasks: what is read from files, the Hub or a person's own preferences."""
