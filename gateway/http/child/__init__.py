"""Bodies too large for the event loop, parsed in a child process."""
