import av
import cv2
import numpy as np
import pytest

from tests.unit.data.video.material import (
    MarkedFaces,
    simple_senses,
    speech,
    talking,
    write_odd_video,
    write_talking,
    write_video,
)
from vivavoz.data.shards.clip import PHONEMES, Clip
from vivavoz.data.video.clips import clips_of
from vivavoz.data.video.limits import Limits
from vivavoz.data.video.sources import VideoSource, Word
from vivavoz.engine.controls import STATES


def results(path, limits=None, **more):
    source = VideoSource(name="a", path=str(path), identity="anna", licence="CC0", origin=path.name, **more)
    with simple_senses() as senses:
        return list(clips_of(source, senses, limits or Limits()))


def the_clip(path, **more):
    (clip,) = results(path, **more)
    assert isinstance(clip, Clip), clip
    return clip


def the_reasons(path, limits=None, **more):
    (rejection,) = results(path, limits, **more)
    assert rejection.source == path.name
    assert rejection.detail
    return rejection.reasons


@pytest.fixture(scope="module")
def spoken(tmp_path_factory):
    """A video, its clip and its sound."""
    path = tmp_path_factory.mktemp("spoken") / "a.mp4"
    samples = write_talking(path)
    return (
        path,
        the_clip(path, words=(Word(text="bin", start_s=0.5, end_s=0.9), Word(text="blue", start_s=9, end_s=9.5))),
        samples,
    )


def lips(clip):
    return clip.labels["lip_shape"][:, 0]


def test_a_video_becomes_a_clip(spoken):
    _, clip, samples = spoken
    assert clip.info.key == "a_000000"
    assert (clip.info.identity, clip.info.source, clip.info.licence) == ("anna", "a.mp4", "CC0")
    assert clip.frames.shape == (75, 512, 512, 3)
    assert np.corrcoef(clip.samples, samples)[0, 1] > 0.95
    loudness = speech(3.0)[1]
    assert np.corrcoef(lips(clip), loudness)[0, 1] > 0.95
    assert clip.info.facts["text"] == "bin"
    assert set(clip.labels["phoneme"]) == {PHONEMES.index("AA")}
    assert clip.labels["state"][loudness > 0.2].max() == STATES.index("speaking")
    assert abs(clip.info.facts["sync_offset_s"]) <= 0.06
    assert clip.info.facts["sync_corrected"] is False


def test_the_crop_stands_still_and_the_head_moves_in_it(spoken):
    path, clip, _ = spoken
    ((left, top, side),) = clip.info.crop_track_px
    with av.open(path) as container:
        for index, frame in enumerate(container.decode(video=0)):
            cut = frame.to_ndarray(format="rgb24")[int(top) : int(top + side), int(left) : int(left + side)]
            small = cv2.resize(clip.frames[index], (64, 64), interpolation=cv2.INTER_AREA).astype(int)
            assert np.abs(small - cv2.resize(cut, (64, 64), interpolation=cv2.INTER_AREA)).mean() < 3
    noses = clip.landmarks[:, 4, 0]
    assert np.ptp(noses) == pytest.approx(6 * 512 / side, rel=0.3)  # it sways by 3 px to either side


@pytest.mark.parametrize("late_s", [0.2, -0.16])
def test_a_late_sound_is_corrected(tmp_path, spoken, late_s):
    write_talking(tmp_path / "a.mp4", late_s=late_s)
    clip = the_clip(tmp_path / "a.mp4")
    assert clip.info.facts["sync_corrected"] is True
    assert clip.info.facts["sync_offset_s"] == pytest.approx(late_s + spoken[1].info.facts["sync_offset_s"], abs=0.03)
    envelopes = [np.abs(samples[8000:-8000]).reshape(-1, 160).mean(1) for samples in (clip.samples, spoken[2])]
    best = max(range(-30, 31), key=lambda lag: np.corrcoef(np.roll(envelopes[0], lag), envelopes[1])[0, 1])
    assert abs(best) <= 6


def test_a_long_video_with_a_cut_becomes_clips_and_reasons(tmp_path):
    samples, loudness = speech(14)
    pictures = [*talking(loudness[:300]), *talking(loudness[300:310], zoom=0.5), *talking(loudness[310:], shift_px=(40, 20))]
    write_video(tmp_path / "a.mp4", pictures, samples)
    one, two, short, three = results(tmp_path / "a.mp4")
    assert [clip.info.key for clip in (one, two, three)] == ["a_000000", "a_000150", "a_000310"]
    assert (short.reasons, short.start_s, short.seconds) == (("too short",), 12.0, 0.4)
    joined = np.concatenate([one.samples, two.samples])
    assert np.corrcoef(joined, samples[: len(joined)])[0, 1] > 0.95
    assert three.info.crop_track_px != two.info.crop_track_px


def test_a_part_of_a_video_is_taken_where_it_lies(tmp_path):
    samples, loudness = speech(6)
    write_video(tmp_path / "a.mp4", talking(loudness), samples)
    clip = the_clip(tmp_path / "a.mp4", start_s=2.0, end_s=5.0, region_px=(100, 0, 250, 250))
    assert clip.info.key == "a_000050"
    assert np.corrcoef(clip.samples, samples[32_000:80_000])[0, 1] > 0.95
    assert np.corrcoef(lips(clip), loudness[50:125])[0, 1] > 0.95
    assert the_reasons(tmp_path / "a.mp4", start_s=2.0, end_s=5.0, region_px=(0, 200, 150, 100)) == ("no face",)
    assert the_reasons(tmp_path / "a.mp4", start_s=60.0, end_s=65.0) == ("too short",)


def at_rate(rate):
    """Sound, its pictures at another rate, and their times in ms."""
    samples, loudness = speech(3)
    times = np.arange(round(3 * rate)) / rate
    return samples, list(talking(np.interp(times + 0.5 / rate, (np.arange(75) + 0.5) / 25, loudness))), loudness


@pytest.mark.parametrize("rate", [24, 30, 50])
def test_other_frame_rates(tmp_path, rate):
    samples, pictures, loudness = at_rate(rate)
    clip = the_clip(write_odd_video(tmp_path / "a.mp4", pictures, samples, rate=rate))
    assert abs(clip.info.num_frames - 75) <= 1
    count = min(clip.info.num_frames, 75)
    assert np.corrcoef(lips(clip)[:count], loudness[:count])[0, 1] > 0.93


@pytest.mark.parametrize(
    "look",
    [{"pix_fmt": "yuv420p10le"}, {"start_s": 7.48}, {"pix_fmt": "yuv422p"}],
    ids=["10 bit", "not starting at 0", "4:2:2"],
)
def test_unusual_files(tmp_path, spoken, look):
    samples, loudness = speech(3)
    clip = the_clip(write_odd_video(tmp_path / "a.mp4", list(talking(loudness)), samples, **look))
    assert clip.info.num_frames == 75
    assert np.corrcoef(clip.samples, samples)[0, 1] > 0.9
    assert np.corrcoef(lips(clip), loudness)[0, 1] > 0.95
    # More colour shows the painted mouth a pixel or two wider.
    assert np.abs(np.subtract(clip.info.crop_track_px, spoken[1].info.crop_track_px)).max() <= 14


def test_a_variable_rate_keeps_lips_and_sound_together(tmp_path):
    samples, pictures, loudness = at_rate(50)
    kept = [index for index in range(len(pictures)) if index % 50 < 30 or index % 2 == 0]
    path = write_odd_video(
        tmp_path / "a.mp4", [pictures[i] for i in kept], samples, rate=50, times=[round(1000 * i / 50) for i in kept]
    )
    clip = the_clip(path)
    assert np.corrcoef(lips(clip)[:74], loudness[:74])[0, 1] > 0.93


def test_a_rotated_video_is_set_upright(tmp_path, spoken):
    samples, loudness = speech(3)
    lying = write_odd_video(tmp_path / "a.mp4", list(talking(loudness)), samples, rotation=90)
    turned = tmp_path / "b.mp4"
    turned.write_bytes(turn_display_matrix(lying.read_bytes()))
    assert np.abs(np.subtract(the_clip(turned).info.crop_track_px, spoken[1].info.crop_track_px)).max() <= 6


def turn_display_matrix(mp4):
    """The same file, whose video track says that it is to be shown turned by a quarter clockwise."""
    upright = b"".join(value.to_bytes(4, "big") for value in (0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000))
    turned = b"".join(value.to_bytes(4, "big", signed=True) for value in (0, 0x10000, 0, -0x10000, 0, 0, 0, 0, 0x40000000))
    at = mp4.index(upright, mp4.index(b"tkhd"))
    return mp4[:at] + turned + mp4[at + len(turned) :]


def test_too_few_frames_a_second(tmp_path):
    samples, pictures, _ = at_rate(12)
    assert the_reasons(write_odd_video(tmp_path / "a.mp4", pictures, samples, rate=12)) == ("frame rate",)


def test_files_that_cannot_be_used(tmp_path):
    samples, loudness = speech(2)
    (tmp_path / "text.mp4").write_text("no video")
    (tmp_path / "empty.mp4").write_bytes(b"")
    write_talking(tmp_path / "whole.mp4")
    (tmp_path / "cut.mp4").write_bytes((tmp_path / "whole.mp4").read_bytes()[:20_000])
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        audio = container.add_stream("aac", rate=16_000, layout="mono")
        frame = av.AudioFrame.from_ndarray(samples[None, :16_000], format="fltp", layout="mono")
        frame.sample_rate = 16_000
        container.mux([*audio.encode(frame), *audio.encode(None)])
    for name in ("text.mp4", "empty.mp4", "cut.mp4", "sound.mp4", "missing.mp4"):
        assert the_reasons(tmp_path / name) == ("unreadable",), name
    write_video(tmp_path / "mute.mp4", talking(loudness))
    write_video(tmp_path / "silent.mp4", talking(loudness), np.zeros_like(samples))
    assert the_reasons(tmp_path / "mute.mp4") == the_reasons(tmp_path / "silent.mp4") == ("no sound",)
    write_video(tmp_path / "blip.mp4", talking(loudness[:10]), samples)
    assert the_reasons(tmp_path / "blip.mp4") == ("too short",)
    write_video(tmp_path / "tiny.mp4", talking(loudness, size=(128, 96), zoom=0.25), samples)
    assert the_reasons(tmp_path / "tiny.mp4") == ("resolution",)


def test_sound_may_lie_in_another_file(tmp_path):
    write_talking(tmp_path / "a.mp4", sound=False)
    write_talking(tmp_path / "other.mp4")
    assert np.corrcoef(the_clip(tmp_path / "a.mp4", sound_path=str(tmp_path / "other.mp4")).samples, speech(3.0)[0])[0, 1] > 0.9
    assert the_reasons(tmp_path / "a.mp4", sound_path=str(tmp_path / "missing.m4a")) == ("unreadable sound",)


def test_what_is_wrong_with_picture_or_sound_is_said_together(tmp_path):
    hum = 0.01 * np.sin(np.arange(3 * 16_000) / 20).astype(np.float32)
    write_video(tmp_path / "a.mp4", talking(speech(3)[1]), hum)
    (rejection,) = results(tmp_path / "a.mp4", Limits(min_sharpness=0.9))
    assert rejection.reasons == ("blurred", "no voice")
    assert (rejection.start_s, rejection.seconds) == (0.0, 3.0)
    assert "sharpness 0." in rejection.detail


def test_somebody_else_speaks(tmp_path):
    write_talking(tmp_path / "a.mp4", seconds=6, loudness=np.random.default_rng(5).permutation(speech(6)[1]))
    assert the_reasons(tmp_path / "a.mp4", Limits(min_sync_confidence=0.5)) == ("lips do not match",)
    write_talking(tmp_path / "b.mp4", loudness=np.zeros(75))
    assert the_reasons(tmp_path / "b.mp4") == ("lips do not move",)


def test_two_people_in_one_crop(tmp_path):
    samples, loudness = speech(3)
    pictures = [np.concatenate([picture[:, 120:300], picture[:, 160:340]], axis=1) for picture in talking(loudness)]
    write_video(tmp_path / "a.mp4", pictures, samples)
    assert the_reasons(tmp_path / "a.mp4") == ("several faces",)


def test_a_hand_before_the_face(tmp_path):
    samples, loudness = speech(3)
    pictures = list(talking(loudness))
    for picture in pictures[20:50]:
        cv2.circle(picture, (215, 120), 9, (0, 0, 255), -1)
    write_video(tmp_path / "a.mp4", pictures, samples)
    assert the_reasons(tmp_path / "a.mp4") == ("face covered",)


def test_faces_lost_for_some_pictures_are_bridged_or_rejected(tmp_path, monkeypatch):
    write_talking(tmp_path / "a.mp4")
    follow = MarkedFaces.follow
    for gone, kept in ((4, True), (20, False)):
        monkeypatch.setattr(MarkedFaces, "follow", lambda self, crops, gone=gone: [None] * gone + follow(self, crops[gone:]))
        (result,) = results(tmp_path / "a.mp4")
        assert isinstance(result, Clip) == kept
        if not kept:
            assert result.reasons == ("face lost",)
