"""Embedders of documents and of queries, which the gateway and processors share."""
