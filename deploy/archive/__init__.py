"""The archive as operators see it: its objects and their chains, whether they are whole, and how to bring them back."""
