"""The `tidegate` command, one file a group of commands."""
