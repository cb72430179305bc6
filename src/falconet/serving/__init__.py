"""The HTTP service: models by name behind addresses. No torch; models are opened by whoever hands them in."""
