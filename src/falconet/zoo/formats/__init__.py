"""Safe readers of foreign file formats: nothing in a file is ever run, and none of them needs torch."""
