"""Files of a corpus at any fsspec URL: a folder, `s3://`, `gs://`, `memory://`; written whole or not at all."""

import glob
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Final

import fsspec
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from vivavoz.errors import DataError, OutputError, VivavozError
from vivavoz.media.output import whole_file, writing

_SUFFIXES: Final = (".tar", ".json", ".jsonl", ".safetensors")


def join(folder: str, name: str) -> str:
    """URL of a file in a folder."""
    return f"{folder.rstrip('/')}/{name}"


@contextmanager
def writing_whole(url: str) -> Iterator[IO[bytes]]:
    """Hand out a file; what was written appears under `url` when the block ends well, and never in part.

    Raises:
        OutputError: it cannot be written there, or the disk is full.
    """
    filesystem, path = _filesystem(url)
    if isinstance(filesystem, LocalFileSystem):
        with writing(url):
            Path(path).parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path, _SUFFIXES) as temporary, writing(url), temporary.open("w+b") as file:
            yield file
        return
    with writing(url), tempfile.NamedTemporaryFile() as file:
        yield file
        file.flush()
        with _reached(url, OutputError):
            filesystem.put_file(file.name, path)  # an object store shows it once it is all there


def remove_unfinished(url: str) -> None:
    """Remove what a process that was killed while it wrote `url` has left; nobody else may be writing it."""
    filesystem, path = _filesystem(url)
    if isinstance(filesystem, LocalFileSystem):
        for leftover in Path(path).parent.glob(f".{glob.escape(Path(path).name)}.*.part"):
            leftover.unlink(missing_ok=True)


def write_text(url: str, text: str) -> None:
    """Write a text file whole. Raises `OutputError`."""
    with writing_whole(url) as file:
        file.write(text.encode())


def read_text(url: str) -> str:
    """A text file. Raises `DataError` where there is none."""
    return read_bytes(url).decode()


def read_bytes(url: str, start: int | None = None, end: int | None = None) -> bytes:
    """A file, or its bytes from `start` to `end`. Raises `DataError` where there is none, or it is too short."""
    filesystem, path = _filesystem(url)
    with _reached(url, DataError):
        content = bytes(filesystem.cat_file(path, start=start, end=end))
    if start is not None and end is not None and len(content) != end - start:
        raise DataError(f"{url} ends within bytes {start} to {end}; copy or write it again")
    return content


def size_of(url: str) -> int | None:
    """Bytes of a file; None where there is none. Raises `DataError` where the store does not answer."""
    filesystem, path = _filesystem(url)
    with _reached(url, DataError), suppress(FileNotFoundError, NotADirectoryError):
        return int(filesystem.size(path))
    return None


def read_json(url: str) -> Any:
    """A JSON file. Raises `DataError`."""
    try:
        return json.loads(read_bytes(url))
    except ValueError as error:
        raise DataError(f"{url} is damaged ({error}); remove it to have it made again") from error


@contextmanager
def _reached(url: str, kind: type[VivavozError]) -> Iterator[None]:
    """Turn whatever keeps a file from being read (`DataError`) or written into one line; every store has errors of its own."""
    try:
        yield
    except Exception as error:
        told = "no such file" if isinstance(error, FileNotFoundError) else str(error) or type(error).__name__
        reason = (error.strerror if isinstance(error, OSError) else None) or told
        verb = "write" if kind is OutputError else "read"
        raise kind(f"cannot {verb} {url}: {reason}; check the path, and that its store is there and lets you in") from error


def _filesystem(url: str) -> tuple[fsspec.AbstractFileSystem, str]:
    try:
        return url_to_fs(url)  # type: ignore[no-any-return]
    except (ImportError, ValueError) as error:
        raise OutputError(f"cannot open {url}: {error}; install what reads such URLs, or give another") from error
