"""The study of selective decoding (paper §4.6)."""
