"""The order in which documents are worked on, and how many at once."""
