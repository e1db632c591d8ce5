"""Reading the log for people: from where, which records, and what they say."""
