"""Searches: two legs in Postgres, fused by rank."""
