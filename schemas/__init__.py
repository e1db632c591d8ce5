"""The contract: everything that two processes of Tidegate must agree on. Importing it opens nothing."""
