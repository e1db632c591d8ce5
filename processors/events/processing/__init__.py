"""The processing group: a user's functions, called for events of their types."""
