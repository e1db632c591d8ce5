"""The HTTP functions, one file per resource."""
