"""The one error that is the user's to mend."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class UserError(ValueError):
    """What was asked cannot be done; the message says why in one line, and how to mend it.

    The command line shows it without a traceback. Any other exception is a bug, and looks like one.
    """


@contextmanager
def asked_by_user() -> Iterator[None]:
    """Mark a stretch of code whose complaints answer the user's own arguments.

    Raises:
        UserError: In place of a ValueError, TypeError or MemoryError, with the same message.

    Examples:
        >>> with asked_by_user():
        ...     raise ValueError("`lr` (=-1) must be above 0")
        Traceback (most recent call last):
        xnets._errors.UserError: `lr` (=-1) must be above 0
    """
    try:
        yield
    except UserError:
        raise
    except (ValueError, TypeError) as error:
        raise UserError(str(error)) from error
    except MemoryError as error:
        raise UserError(f"too large for this machine's memory: {error}") from error
