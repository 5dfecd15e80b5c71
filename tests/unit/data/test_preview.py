import base64
import html.parser
import json
import re
import shutil
import subprocess

import av
import numpy as np
import pytest

from tests.unit.data.shards.material import frame_of, make_clip
from vivavoz.cli import main
from vivavoz.data.preview.gather import choose
from vivavoz.data.shards.archive import write_shard
from vivavoz.data.shards.clip import PHONEMES
from vivavoz.data.shards.codec import decode_frames, decode_sound
from vivavoz.data.shards.manifest import Manifest, Rejection
from vivavoz.media.image import read_image

NASTY = "</script><img src=x onerror=alert(1)> & co"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("corpus"))
    clips = [
        make_clip("anna-1", num_frames=26, split="train", crop_track_px=((1.0, 2.0, 300.0),), facts={"note": NASTY}),
        make_clip("anna-2", num_frames=5, split="train"),
        make_clip("bo-1", identity=NASTY, num_frames=9, split="test", without=("expression", "expression_intensity")),
    ]
    rejected = [
        Rejection(source=NASTY, reasons=("blurred", "no face"), start_s=1.0, seconds=2.0, detail="sharpness 3"),
        Rejection(source="y.mp4", reasons=("blurred",)),
    ]
    Manifest(shards=(write_shard(f"{folder}/a.tar", clips),), rejected=tuple(rejected)).save(folder)
    return folder


@pytest.fixture(scope="module")
def page(corpus, tmp_path_factory):
    target = tmp_path_factory.mktemp("preview") / "look.html"
    assert main(["data", "preview", corpus, "-o", str(target)]) == 0
    return target


def data_of(page):
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page.read_text(encoding="utf-8"), re.DOTALL)
    return json.loads(found[1])


def test_the_page_asks_for_nothing_else(page):
    asked = []

    class Reader(html.parser.HTMLParser):
        def handle_starttag(self, tag, attributes):
            asked.extend((tag, name, value) for name, value in attributes if name in ("src", "href", "data", "action"))

    text = page.read_text(encoding="utf-8")
    Reader().feed(text)
    assert {value for _, _, value in asked} == {"data:,", "#overview", "#clips", "#left-out", "#shards"}
    without_data = re.sub(r'id="data">.*?</script>', "", text, flags=re.DOTALL).replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"https?:|url\(|@import|fetch\(|XMLHttpRequest", without_data)


def test_films_are_what_training_reads(page, corpus, tmp_path):
    (clip,) = (one for one in data_of(page)["clips"] if one["info"]["key"] == "anna-1")
    film = base64.b64decode(clip["film"])
    frames = decode_frames(film, range(26), "anna-1")
    assert [frame_of(frame) for frame in frames] == list(range(26))
    sound = decode_sound(film, "anna-1")
    assert np.abs(sound - make_clip(num_frames=26).samples).max() < 1e-4
    (tmp_path / "film.mp4").write_bytes(film)
    with av.open(str(tmp_path / "film.mp4")) as container:
        assert [stream.codec_context.name for stream in container.streams] == ["h264", "flac"]


def test_figures_count_the_corpus(page):
    data = data_of(page)
    assert (data["summary"]["clips"], data["summary"]["identities"], sum(data["lengths"])) == (3, 2, 3)
    assert data["summary"]["reasons"] == {"blurred": 2, "no face": 1}
    assert data["licences"] == {"CC0": 1.6}
    assert sum(data["figures"]["classes"]["state"].values()) == pytest.approx(40 / 25)
    assert sum(data["figures"]["classes"]["expression"].values()) == pytest.approx(31 / 25)
    yaw = data["figures"]["histograms"][0]
    assert (yaw["title"], sum(yaw["counts"])) == ("Head yaw", 40)


def test_a_sheet_with_a_row_for_every_clip(page):
    sheet = read_image(page.with_suffix(".png"))
    assert sheet.shape == (3 * (28 + 192), 8 * 192, 3)
    row = sheet[28 : 28 + 192].reshape(192, 8, 192, 3).swapaxes(0, 1)
    assert [frame_of(tile[:160]) for tile in row] == np.linspace(0, 25, 8).round().tolist()


def test_clips_of_as_many_people_as_there_are(corpus):
    manifest = Manifest.load(corpus)
    for seed in range(8):
        chosen = [clip.info.key for _, clip in choose(manifest, 2, seed)]
        assert chosen in (["anna-1", "bo-1"], ["anna-2", "bo-1"])
    assert len({tuple(clip.info.key for _, clip in choose(manifest, 2, seed)) for seed in range(8)}) == 2
    assert len(choose(manifest, 99, 0)) == 3


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["nowhere"], "cannot read nowhere/manifest.jsonl"),
        (["{empty}"], "holds no clip to show (1 pieces were left out)"),
        (["{corpus}", "--clips", "0"], "got 0 clips to show"),
        (["{corpus}", "-o", "look.txt"], "use one of .html"),
    ],
)
def test_what_cannot_be_shown_is_said(corpus, tmp_path, capsys, monkeypatch, arguments, complaint):
    monkeypatch.chdir(tmp_path)
    empty = tmp_path / "empty"
    Manifest(shards=(), rejected=(Rejection(source="x", reasons=("blurred",)),)).save(str(empty))
    assert main(["data", "preview", *(text.format(empty=empty, corpus=corpus) for text in arguments)]) == 2
    error = capsys.readouterr().err
    assert complaint in error
    assert error.count("\n") == 1


@pytest.mark.skipif(CHROMIUM is None, reason="needs a browser: apt-get install chromium")
def test_a_browser_plays_it(page, tmp_path):
    """The page in Chromium without network, at a moment of a clip: films load, plots follow, nothing from the data is markup."""
    offline = ["--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={tmp_path}", "--no-first-run", "--disable-gpu"]
    command = [CHROMIUM, "--headless", "--no-sandbox", *offline, "--window-size=1280,1000", "--virtual-time-budget=20000"]
    run = subprocess.run(
        [*command, "--dump-dom", f"{page.as_uri()}#anna-1@0.4"], capture_output=True, text=True, timeout=240, check=False
    )
    dom = run.stdout
    opening = re.search(r"<html[^>]*>", dom)[0]
    assert 'data-films="3"' in opening, run.stderr[-2000:]
    assert "data-error" not in opening
    assert "<img" not in dom
    assert dom.count('<article class="card clip"') == 3
    anna, anna_2, bo = re.findall(r"<article.*?</article>", dom, re.DOTALL)
    assert "0.40 / 1.04 s" in anna
    assert "0.00 / 0.20 s" in anna_2
    assert anna.count('class="lane ') == 9
    assert bo.count('class="lane ') == 7
    assert "Not labelled: expression, intensity." in bo
    readouts = re.findall(r'<div class="readout">(.*?)</div>(?=<div class="label|<div></div>)', anna, re.DOTALL)
    words = [re.sub(r"<[^>]+>", " ", readout).split() for readout in readouts]
    assert words[0] == [PHONEMES[10]]
    assert words[1] == ["opening", "0.10", "width", "0.10", "height", "0.10"]
    assert ["yaw", "5.7°", "pitch", "5.7°"] in words
