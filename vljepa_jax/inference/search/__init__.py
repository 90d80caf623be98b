"""A collection's embeddings, and search in them."""

SHARD_ROWS = 512  # embeddings after which a shard is written, where nobody says otherwise
