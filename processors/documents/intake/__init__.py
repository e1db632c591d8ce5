"""Commands for documents as rows, and as work for the embedders."""
