"""The handlers of documents; each file has one kind of thing that is asked."""
