"""Weights that are published: `table` says what there is and how good it is, `fetch` brings it."""
