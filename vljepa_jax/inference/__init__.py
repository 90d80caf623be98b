"""Embedding and prediction with a trained model."""
