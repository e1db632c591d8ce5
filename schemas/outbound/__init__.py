"""Requests to servers of others: which addresses they may have, and connections to no other."""
