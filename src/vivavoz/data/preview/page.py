"""The preview of a corpus: one HTML file that asks for nothing else, and a contact sheet."""

import importlib.resources
import json
from pathlib import Path
from typing import Final

import cv2
import numpy as np

from vivavoz.data.preview.gather import choose, gather
from vivavoz.data.shards.codec import decode_frames
from vivavoz.data.shards.manifest import Manifest
from vivavoz.data.shards.storage import join
from vivavoz.errors import ConfigError, DataError
from vivavoz.media.image import Pixels, write_image
from vivavoz.media.output import whole_file, writing
from vivavoz.media.video import contact_sheet
from vivavoz.timing import FRAME_RATE

SHEET_COLUMNS: Final = 8
_TILE_PX: Final = 192
_HEAD_PX: Final = 28


def write_preview(folder: str, page: Path, *, num_clips: int = 12, seed: int = 0) -> Path:
    """Write the page and, beside it, the contact sheet with the same name and `.png`; gives the sheet's path.

    Args:
        folder: of a corpus: a path or any fsspec URL.
        page: target, ending in .html.
        num_clips: how many clips are shown.
        seed: which ones.

    Raises:
        ConfigError: less than one clip.
        DataError: no corpus there, none of its clips, or a damaged shard.
        OutputError: a file cannot be written.
    """
    if num_clips < 1:
        raise ConfigError(f"got {num_clips} clips to show, expected at least 1")
    manifest = Manifest.load(folder)
    chosen = choose(manifest, num_clips, seed)
    if not chosen:
        raise DataError(f"{folder} holds no clip to show ({len(manifest.rejected)} pieces were left out); add sources")
    content = json.dumps(gather(folder, manifest, chosen, seed=seed), ensure_ascii=False, separators=(",", ":"))
    text = _part("page.html")
    for place, part in (("/*STYLE*/", _part("page.css")), ("/*SCRIPT*/", _part("page.js")), ("/*PLOTS*/", _part("plots.js"))):
        text = text.replace(place, part)
    text = text.replace("/*DATA*/", content.replace("<", "\\u003c"))  # no name in the data can end the element
    rows: list[Pixels] = []
    for shard, clip in chosen:
        num_frames = clip.info.num_frames
        frames = decode_frames(clip.read(join(folder, shard.name), "256.mp4"), range(num_frames), clip.info.key)
        places = np.linspace(0, num_frames - 1, SHEET_COLUMNS).round().astype(int)
        tiles = contact_sheet([frames[i] for i in places], SHEET_COLUMNS, [i / FRAME_RATE for i in places], _TILE_PX)
        rows += [_head(f"{clip.info.key}   {clip.info.identity}   {clip.info.split}", tiles.shape[1]), tiles]
    with whole_file(page, (".html",)) as temporary, writing(page):
        temporary.write_text(text, encoding="utf-8")
    sheet = page.with_suffix(".png")
    write_image(sheet, np.concatenate(rows))
    return sheet


def _part(name: str) -> str:
    return importlib.resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def _head(text: str, width: int) -> Pixels:
    bar = np.full((_HEAD_PX, width, 3), 24, np.uint8)
    ascii_only = text.encode("ascii", "replace").decode()
    cv2.putText(bar, ascii_only, (6, _HEAD_PX - 9), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (235, 235, 235), 1, cv2.LINE_AA)
    return bar
