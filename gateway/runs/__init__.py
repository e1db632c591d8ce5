"""Runs over HTTP: sent, listed, shown, finalized."""
