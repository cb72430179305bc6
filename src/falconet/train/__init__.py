"""Everything that is thrown away after training."""
