"""Access control: the credentials file and the secrets in it."""
