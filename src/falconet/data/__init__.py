"""Files to samples: reading, checking, drawing and converting data sets. No torch."""
