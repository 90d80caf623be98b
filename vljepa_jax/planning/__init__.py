"""Memory and time of a training step on devices that are not at hand."""
