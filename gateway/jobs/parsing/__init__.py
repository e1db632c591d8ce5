"""Bodies to commands for jobs."""
