"""One's own data in one command: from a table, a folder or a dataset to an adapted model."""
