"""Networks, nothing else: backbones, necks, heads. Needs torch (`pip install falconet[train]`)."""
