"""Reads from the tables that persistence writes; the only place in the gateway that knows psycopg."""
