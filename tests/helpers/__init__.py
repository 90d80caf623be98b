"""Tiny models, references, media and runs that several tests share."""
