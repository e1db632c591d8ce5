"""The streams of each domain: its topics, what a socket follows of them, and how a record becomes a message."""
