"""Tokens of users: whose they are, by keys that are read now and then."""
