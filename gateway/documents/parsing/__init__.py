"""Bodies to commands for documents, and to searches."""
