"""The kinds of sinks that Tidegate brings."""
