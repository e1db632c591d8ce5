"""Documents: submit texts and files, follow their jobs, read what is stored, and search it."""
