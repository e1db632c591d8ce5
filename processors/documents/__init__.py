"""Documents: commands become rows and work, work becomes chunks with vectors, and those become the live version."""
