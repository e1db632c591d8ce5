"""The errors that end a command: an exit code and one line for a person."""


class CommandFailed(Exception):
    """The command could not do what was asked. The text says why and what to do; exit code 1."""

    exit_code = 1


class NotReachable(CommandFailed):
    """Something that the command needs does not answer or has no known address; exit code 3."""

    exit_code = 3
