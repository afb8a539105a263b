"""Files that are written whole or not at all."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PARTIAL = ".partial-"  # how the names of half-written files begin


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Write a file whole or not at all, even if the process or the machine dies meanwhile.

    Args:
        path: The file; it may exist.

    Yields:
        A path beside it to write to, renamed to `path` at the end.

    Raises:
        OSError: If that fails, as on a full disk, or if `path` is a folder or a device, in whose
            place a file would stand; it names `path`.

    Examples:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with replacing(Path(folder, "a.txt")) as temporary:
        ...         _ = temporary.write_text("whole")
        ...     [p.name for p in Path(folder).iterdir()]
        ['a.txt']
    """
    if path.exists() and not path.is_file():
        raise OSError(errno.EEXIST, "There is a folder or a device of this name", str(path))
    temporary = path.with_name(f"{PARTIAL}{path.stem}.{os.getpid()}{path.suffix}")
    try:
        yield temporary
        with temporary.open("rb+") as file:  # the name must not reach the disk before the content
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        if error.errno is None or error.filename not in (None, str(temporary)):
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        temporary.unlink(missing_ok=True)
