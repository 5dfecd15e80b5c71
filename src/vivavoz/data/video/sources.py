"""Videos to prepare, and what the folders of known corpora say about them: who speaks, which part, which words.

Layouts, told by what lies in the folder:

- `voxceleb2`: `[dev|test/]mp4/ID/VIDEO/NUMBER.mp4`, with sound in the file or in `aac/ID/VIDEO/NUMBER.m4a` beside `mp4`.
- `hdtf`: lists `XX_annotion_time.txt`, `XX_video_url.txt`, `XX_crop_wh.txt` (in the folder or in `HDTF_dataset`) and videos
  `NAME.mp4` or their parts `NAME_0.mp4`, anywhere below, also with `XX_` before the name.
- `grid`: videos with a `NAME.align` beside them or in a folder `align`; the folder `s1` of a video is its speaker.
- `folder`: any videos; those of one sub-folder are of one person, those at the top are each of a person of their own.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal, TypeAlias, get_args

from vivavoz.data.shards.clip import Split
from vivavoz.data.shards.manifest import Rejection
from vivavoz.errors import DataError

VIDEO_SUFFIXES: Final = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".mts", ".flv", ".wmv", ".3gp")

Layout: TypeAlias = Literal["voxceleb2", "hdtf", "grid", "folder"]
LAYOUTS: Final[tuple[Layout, ...]] = get_args(Layout)

_LICENCES: Final[dict[Layout, str]] = {
    "voxceleb2": "CC BY 4.0 (annotations; videos: their owners)",
    "hdtf": "CC BY 4.0 (annotations; videos: their owners)",
    "grid": "CC BY 4.0",
}
_GRID_TICKS_PER_S: Final = 25_000
_GRID_SILENCE: Final = ("sil", "sp")


@dataclass(frozen=True, kw_only=True, slots=True)
class Word:
    """A word and when it is said, in seconds of the video."""

    text: str
    start_s: float
    end_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class VideoSource:
    """A video, or a part of one, that one person speaks in."""

    name: str
    """Unique among the sources; begins the keys of its clips."""
    path: str
    identity: str
    licence: str
    origin: str
    """Where it comes from: a URL, or the path within the folder."""
    sound_path: str = ""
    """A file with the sound, where the video has none."""
    start_s: float = 0.0
    end_s: float | None = None
    region_px: tuple[int, int, int, int] | None = None
    """Left, top, width and height of the part of the picture that shows the person."""
    words: tuple[Word, ...] = ()
    split: Split | None = None
    """Of its clips; None: told by who it is, as everywhere."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """What a folder holds."""

    layout: Layout
    sources: tuple[VideoSource, ...]
    rejected: tuple[Rejection, ...] = ()
    """Listed but not there, or listed in words that cannot be read."""

    def put_in(self, split: Split) -> "Found":
        """The same, all of it in one split: for a corpus of few people, or one whose authors have split it."""
        return replace(self, sources=tuple(replace(source, split=split) for source in self.sources))


def find_sources(folder: Path, layout: Layout | None = None, licence: str | None = None) -> Found:
    """Videos of a folder in the order of their names, as its layout (told by its content unless given) describes them.

    Args:
        folder: a local folder.
        layout: one of `LAYOUTS`.
        licence: of the videos, where it is another than the corpus's, or the layout knows none.

    Raises:
        DataError: no such folder, no video in it, or none that fits the layout.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder; give a folder of videos")
    videos = sorted(path for path in folder.rglob("*") if path.suffix.lower() in VIDEO_SUFFIXES and path.is_file())
    if not videos:
        raise DataError(f"{folder} holds no videos; expected files ending in {', '.join(VIDEO_SUFFIXES)}")
    layout = layout or tell_layout(folder, videos)
    read: Callable[[Path, list[Path], str], Iterator[VideoSource | Rejection]] = {
        "voxceleb2": _voxceleb2,
        "hdtf": _hdtf,
        "grid": _grid,
        "folder": _plain,
    }[layout]
    found = list(read(folder, videos, licence or _LICENCES.get(layout, "unknown")))
    sources = tuple(each for each in found if isinstance(each, VideoSource))
    if not sources:
        raise DataError(f"none of {len(videos)} videos in {folder} fits the layout {layout}; name another with --layout")
    names = [source.name for source in sources]
    twice = next((name for name in names if names.count(name) > 1), None) if len(set(names)) < len(names) else None
    if twice is not None:
        raise DataError(f"two videos in {folder} come to the name {twice}; rename one of them")
    return Found(layout=layout, sources=sources, rejected=tuple(each for each in found if isinstance(each, Rejection)))


def tell_layout(folder: Path, videos: list[Path]) -> Layout:
    """Which layout a folder with these videos has."""
    if any(_hdtf_lists(folder, "annotion_time")):
        return "hdtf"
    if any(_align_of(path) for path in videos[:100]):
        return "grid"
    if all(_is_voxceleb2(path) for path in videos[:100]):
        return "voxceleb2"
    return "folder"


def name_of(path: Path) -> str:
    """A path within the folder, without its suffix, as a name that a key can hold."""
    return re.sub(r"[^A-Za-z0-9_-]+", "_", path.with_suffix("").as_posix())


def _plain(folder: Path, videos: list[Path], licence: str) -> Iterator[VideoSource]:
    for path in videos:
        inside = path.relative_to(folder)
        identity = inside.parts[0] if len(inside.parts) > 1 else inside.stem
        # The suffix goes into the name, for a.mp4 and a.mov may both be there.
        name = name_of(inside) + ("" if path.suffix.lower() == ".mp4" else f"_{path.suffix[1:].lower()}")
        yield VideoSource(name=name, path=str(path), identity=identity, licence=licence, origin=inside.as_posix())


def _is_voxceleb2(path: Path) -> bool:
    return bool(re.fullmatch(r"id\d{5}", path.parent.parent.name)) and path.stem.isdigit()


def _voxceleb2(folder: Path, videos: list[Path], licence: str) -> Iterator[VideoSource | Rejection]:
    for path in videos:
        inside = path.relative_to(folder)
        if not _is_voxceleb2(path):
            yield Rejection(source=inside.as_posix(), reasons=("not in the layout",), detail="expected ID/VIDEO/NUMBER.mp4")
            continue
        identity, video, number = path.parent.parent.name, path.parent.name, path.stem
        above = path.parent.parent.parent
        beside = above.parent / "aac" / identity / video / f"{number}.m4a"
        yield VideoSource(
            name=name_of(Path(identity, video, number)),
            path=str(path),
            identity=f"voxceleb2/{identity}",
            licence=licence,
            origin=f"https://www.youtube.com/watch?v={video}",
            sound_path=str(beside) if above.name == "mp4" and beside.is_file() else "",
        )


def _grid(folder: Path, videos: list[Path], licence: str) -> Iterator[VideoSource]:
    for path in videos:
        inside = path.relative_to(folder)
        speaker = next((part for part in reversed(path.parts[:-1]) if re.search(r"(^|_)s\d{1,2}$", part)), folder.name)
        speaker = speaker.split("_")[-1]
        align = _align_of(path)
        yield VideoSource(
            name=f"{name_of(Path(speaker))}_{name_of(Path(path.name))}",
            path=str(path),
            identity=f"grid/{speaker}",
            licence=licence,
            origin=inside.as_posix(),
            words=() if align is None else read_align(align),
        )


def _align_of(path: Path) -> Path | None:
    beside = path.with_suffix(".align")
    places = (beside, *(up / "align" / beside.name for up in (path.parent, path.parent.parent)))
    return next((place for place in places if place.is_file()), None)


def read_align(path: Path) -> tuple[Word, ...]:
    """Words of a GRID `.align` file, pauses left out; lines that are no `start end word` are passed over."""
    words = []
    for line in path.read_text(errors="replace").splitlines():
        match line.split():
            case [start, end, text] if start.isdigit() and end.isdigit() and text not in _GRID_SILENCE:
                words.append(Word(text=text, start_s=int(start) / _GRID_TICKS_PER_S, end_s=int(end) / _GRID_TICKS_PER_S))
    return tuple(words)


def _hdtf_lists(folder: Path, kind: str) -> list[Path]:
    return sorted([*folder.glob(f"*_{kind}.txt"), *folder.glob(f"HDTF_dataset/*_{kind}.txt")])


def _hdtf(folder: Path, videos: list[Path], licence: str) -> Iterator[VideoSource | Rejection]:
    for listed in _hdtf_lists(folder, "annotion_time"):
        subset = listed.name.split("_")[0]
        beside = {kind: _rows(listed.with_name(f"{subset}_{kind}.txt")) for kind in ("video_url", "crop_wh")}
        for file_name, spans in _rows(listed).items():
            name = file_name.removesuffix(".mp4")
            url = beside["video_url"].get(name, [f"{subset}/{name}"])[0]
            for number, span in enumerate(spans):
                yield _hdtf_part(videos, licence, subset, name, url, number, span, beside["crop_wh"])


def _hdtf_part(
    videos: list[Path], licence: str, subset: str, name: str, url: str, number: int, span: str, crops: dict[str, list[str]]
) -> VideoSource | Rejection:
    key = f"{subset}_{name}_{number}"
    times = re.fullmatch(r"([\d:.]+)-([\d:.]+)", span)
    if times is None:
        return Rejection(source=key, reasons=("list cannot be read",), detail=f"time range {span!r}, expected 00:30-01:00")
    stems = (f"{name}_{number}", key, f"{subset}_{name}_{number:03d}")
    part = next((path for path in videos if path.stem in stems), None)
    whole = next((path for path in videos if path.stem in (name, f"{subset}_{name}")), None)
    crop = crops.get(f"{name}_{number}.mp4", [])
    region = None
    if len(crop) == 4 and all(value.isdigit() for value in crop):
        left, width, top, height = (int(value) for value in crop)
        region = (left, top, width, height)
    if part is None and whole is None:
        return Rejection(source=url, reasons=("video missing",), detail=f"neither {name}.mp4 nor {name}_{number}.mp4 is there")
    # Politicians (WDA, WRA) are listed by name, with a number for each video; who is in the radio videos is not said.
    person = name.rstrip("0123456789") if subset in ("WDA", "WRA") else name
    start_s, end_s = (0.0, None) if part is not None else (_seconds(times[1]), _seconds(times[2]))
    return VideoSource(
        name=name_of(Path(key)),
        path=str(part or whole),
        identity=f"hdtf/{person}",
        licence=licence,
        origin=f"{url}#{span}",
        start_s=start_s,
        end_s=end_s,
        region_px=region,
    )


def _rows(path: Path) -> dict[str, list[str]]:
    """First word of every line to the others; none where there is no such file."""
    if not path.is_file():
        return {}
    rows = (line.split() for line in path.read_text(errors="replace").splitlines())
    return {row[0]: row[1:] for row in rows if row}


def _seconds(clock: str) -> float:
    """Of `01:30` or `1:02:03`."""
    seconds = 0.0
    for part in clock.split(":"):
        seconds = 60 * seconds + float(part or 0)
    return seconds
