"""Pure decisions about what comes in: who sends it, what it is, whether it is valid."""
