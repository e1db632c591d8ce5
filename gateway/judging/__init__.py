"""Bodies too large for the event loop, judged in a process of their own."""
