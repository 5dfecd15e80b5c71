"""Tar shards: clips one after another, every clip's members together under its key. The same clips give the same bytes."""

import hashlib
import io
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import IO

from vivavoz.data.shards.clip import Clip
from vivavoz.data.shards.codec import encode_clip
from vivavoz.data.shards.manifest import Shard, StoredClip
from vivavoz.data.shards.storage import writing_whole
from vivavoz.errors import DataError


def write_shard(url: str, clips: Iterable[Clip]) -> Shard | None:
    """Encode clips, one at a time, into one tar file; it appears whole or not at all.

    Args:
        url: where, ending in .tar: a path or any fsspec URL.
        clips: at least one, with keys of their own; none leaves no file and gives None.

    Raises:
        DataError: two clips with one key.
        OutputError: it cannot be written there.
    """
    clips = iter(clips)
    first = next(clips, None)
    if first is None:
        return None
    stored: list[StoredClip] = []
    with writing_whole(url) as file:
        with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as archive:
            for clip in _chain(first, clips):
                if any(clip.info.key == other.info.key for other in stored):
                    raise DataError(f"two clips of {url} have the key {clip.info.key}; give each its own")
                stored.append(_add(archive, clip))
        num_bytes, digest = _digest(file)
    return Shard(name=url.rsplit("/", 1)[-1], num_bytes=num_bytes, sha256=digest, clips=tuple(stored))


def _add(archive: tarfile.TarFile, clip: Clip) -> StoredClip:
    places: dict[str, tuple[int, int]] = {}
    for suffix, content in encode_clip(clip).items():
        member = tarfile.TarInfo(f"{clip.info.key}.{suffix}")
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
        places[suffix] = (archive.offset - -(-len(content) // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE, len(content))
    return StoredClip(info=replace(clip.info, crop_track_px=()), members=places)


def _chain(first: Clip, rest: Iterator[Clip]) -> Iterator[Clip]:
    yield first
    yield from rest


def _digest(file: IO[bytes]) -> tuple[int, str]:
    file.seek(0)
    digest = hashlib.sha256()
    while piece := file.read(1 << 20):
        digest.update(piece)
    return file.tell(), digest.hexdigest()
