"""Who may do what: the credentials file and the secrets in it."""
