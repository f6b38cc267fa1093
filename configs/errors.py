"""The error of a wrong request, as opposed to a wrong program."""


class UserError(Exception):
    """What a person asked for cannot be done. The message says what was expected, what came, and what to do.

    The command line prints it and exits 2, without a traceback.
    """
