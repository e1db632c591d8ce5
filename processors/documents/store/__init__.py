"""Embedded versions made live, one transaction a document."""
