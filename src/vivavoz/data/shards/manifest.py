"""The manifest of a corpus: what every shard holds, what was left out and why, counts, seconds and hashes.

A file of JSON lines: a summary, then a line for every shard and every rejection, in the order of the tasks that made them.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from vivavoz.config_json import from_plain, to_plain
from vivavoz.data.shards.clip import SPLITS, ClipInfo, Split
from vivavoz.data.shards.storage import join, read_bytes, read_text, write_text
from vivavoz.errors import ConfigError, DataError
from vivavoz.timing import FRAME_RATE

MANIFEST_NAME: Final = "manifest.jsonl"
_VERSION: Final = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredClip:
    """A clip of a shard: its info, without the crop track, and where its members lie."""

    info: ClipInfo
    members: dict[str, tuple[int, int]]
    """Offset in the tar file and length in bytes, by suffix."""

    def read(self, url: str, suffix: str) -> bytes:
        """One member, from the shard at `url`. Raises `DataError` where the clip has none, or the shard is not there whole."""
        if suffix not in self.members:
            raise DataError(f"clip {self.info.key} of {url} has no {suffix}; give shards that `vivavoz data` makes")
        start, length = self.members[suffix]
        return read_bytes(url, start, start + length)


@dataclass(frozen=True, kw_only=True, slots=True)
class Shard:
    """A tar file of the corpus."""

    name: str
    num_bytes: int
    sha256: str
    clips: tuple[StoredClip, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Rejection:
    """A piece of a source that gave no clip."""

    source: str
    reasons: tuple[str, ...]
    """One or more short codes such as `blurred` or `no face`, the same words for the same thing."""
    start_s: float | None = None
    seconds: float | None = None
    detail: str = ""
    """What was measured, or what went wrong, in one line."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """A whole corpus."""

    shards: tuple[Shard, ...]
    rejected: tuple[Rejection, ...] = ()
    made_by: str = ""
    """What made the clips, and its version."""

    def __post_init__(self) -> None:
        """Refuse keys that come twice and people in two splits."""
        seen: set[str] = set()
        split_of_identity: dict[str, Split] = {}
        for clip in self.clips():
            if clip.key in seen:
                raise DataError(f"two clips have the key {clip.key}; expected keys of their own, give the sources other names")
            seen.add(clip.key)
            if split_of_identity.setdefault(clip.identity, clip.split) != clip.split:
                raise DataError(f"{clip.identity} is in two splits; expected one split per person, see split_of")

    def clips(self) -> Iterator[ClipInfo]:
        """Infos of all clips, in order."""
        return (clip.info for shard in self.shards for clip in shard.clips)

    def summary(self) -> dict[str, Any]:
        """Counts and seconds of all and of every split, and how often each reason kept something out."""

        clips = list(self.clips())
        reasons = Counter(reason for rejection in self.rejected for reason in rejection.reasons)
        return {
            "format": "vivavoz clips",
            "version": _VERSION,
            "made_by": self.made_by,
            "shards": len(self.shards),
            "bytes": sum(shard.num_bytes for shard in self.shards),
            **_figures(clips),
            "splits": {split: _figures([clip for clip in clips if clip.split == split]) for split in SPLITS},
            "rejected": len(self.rejected),
            "reasons": dict(sorted(reasons.items())),
        }

    def save(self, folder: str) -> str:
        """Write it into a folder (path or fsspec URL) and give its URL. Raises `OutputError`."""
        lines = [self.summary()]
        lines += [{"shard": to_plain(shard)} for shard in self.shards]
        lines += [{"rejected": to_plain(rejection)} for rejection in self.rejected]
        url = join(folder, MANIFEST_NAME)
        write_text(url, "".join(json.dumps(line, ensure_ascii=False, sort_keys=True) + "\n" for line in lines))
        return url

    @classmethod
    def load(cls, folder: str) -> "Manifest":
        """Read the manifest of a folder. Raises `DataError` where there is none, or it is damaged or of another version."""
        url = join(folder, MANIFEST_NAME)
        try:
            summary, *lines = (json.loads(line) for line in read_text(url).splitlines())
            version = summary.get("version")
        except (ValueError, AttributeError) as error:
            raise DataError(f"{url} is damaged ({error}); run the command that made the corpus again") from error
        if version != _VERSION:
            raise DataError(f"{url} is of version {version}, expected {_VERSION}; make the corpus again with this vivavoz")
        try:
            manifest = cls(
                shards=tuple(from_plain(Shard, line["shard"], "shard") for line in lines if "shard" in line),
                rejected=tuple(from_plain(Rejection, line["rejected"], "rejected") for line in lines if "rejected" in line),
                made_by=summary.setdefault("made_by", ""),
            )
        except ConfigError as error:
            raise DataError(f"{url} is damaged ({error}); run the command that made the corpus again") from error
        if manifest.summary() != summary:
            raise DataError(f"{url} holds less than its first line says; run the command that made the corpus again")
        return manifest


def _figures(clips: list[ClipInfo]) -> dict[str, float]:
    num_frames = sum(clip.num_frames for clip in clips)
    people = len({clip.identity for clip in clips})
    return {"clips": len(clips), "identities": people, "frames": num_frames, "seconds": num_frames / FRAME_RATE}


def split_of(identity: str, *, validation: float = 0.05, test: float = 0.05) -> Split:
    """The split of a person, by a hash of who it is: the same in every corpus, whoever else is in it.

    `validation` and `test` are the shares of people that go there.
    """
    place = int.from_bytes(hashlib.sha256(identity.encode()).digest()[:8], "big") / 2**64
    if place < test:
        return "test"
    return "validation" if place < test + validation else "train"
