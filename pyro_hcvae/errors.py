"""The one error that means "the input is wrong, and this is how to mend it"."""

from __future__ import annotations


class InputError(ValueError):
    """Raised when a file, a setting or an argument cannot be used as it is.

    The message is written for the person who typed or exported the input: it names the place (file, row, column,
    value) and the remedy. The command line prints it without a traceback and exits with code 2.
    """


class DivergenceError(InputError):
    """Raised when training ends without a finite loss: the settings are wrong, not the table."""
