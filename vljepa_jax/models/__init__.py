"""Flax linen modules; pure apply, no training code."""
