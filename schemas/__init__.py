"""The contract: everything that two processes of Tidegate must agree on. Opens no socket, reads no environment."""
