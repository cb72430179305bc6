"""What the command line and `falconet.load` share: which model is meant, what runs it, what it is measured on."""
