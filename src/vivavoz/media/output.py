"""Result files that exist whole or not at all: written under a temporary name beside the target, then renamed."""

import os
import secrets
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from vivavoz.errors import OutputError


@contextmanager
def whole_file(path: str | os.PathLike[str], suffixes: Collection[str]) -> Iterator[Path]:
    """Hand out a temporary path in the target's folder; rename it to `path` on success, remove it on anything else.

    Args:
        path: the target; an existing file is replaced, and only when everything went well.
        suffixes: the suffixes the target may have, lower case, with the dot.

    Raises:
        OutputError: another suffix, a directory as the target, no such folder, no permission, or a full disk.
    """
    target = Path(path)
    _check(target, suffixes)
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    try:
        with writing(target):
            temporary.touch(exist_ok=False)
        yield temporary
        with writing(target):
            os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def writing(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn what the operating system refuses (a full disk, a lost permission) into an `OutputError` about `path`."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError(f"cannot write {path}: {reason}; give a path that can be written, on a disk with room") from error


def _check(target: Path, suffixes: Collection[str]) -> None:
    if target.suffix.lower() not in suffixes:
        raise OutputError(
            f"cannot write {target}: its suffix is {target.suffix or 'missing'!r}; use one of {', '.join(sorted(suffixes))}"
        )
    if target.is_dir():
        raise OutputError(f"cannot write {target}: it is a directory; give the name of a file")
    if not target.parent.is_dir():
        raise OutputError(f"cannot write {target}: there is no directory {target.parent}; make it first")
    if not os.access(target.parent, os.W_OK) or (target.exists() and not os.access(target, os.W_OK)):
        raise OutputError(f"cannot write {target}: no permission; give a path that can be written")
