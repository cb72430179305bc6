"""Which prediction learns which truth: pure functions, batched over images."""
