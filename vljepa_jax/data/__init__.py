"""Records, decoding, tokenizers and the Grain pipeline. JAX is not imported here."""
