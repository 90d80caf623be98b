"""A collection's embeddings, and search in them."""
