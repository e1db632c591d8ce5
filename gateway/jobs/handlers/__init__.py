"""The handlers of jobs; each file has one kind of thing that is asked."""
