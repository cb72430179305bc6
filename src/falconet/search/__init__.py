"""`falconet fit`: the best detector within milliseconds on this machine, found on the user's own data."""
