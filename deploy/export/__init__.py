"""A run as a file that proves itself: written from a gateway, verified by anyone, offline."""
