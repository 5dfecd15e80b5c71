import numpy as np

from tests.unit.data.video.material import simple_senses, speech, write_talking
from vivavoz.data.shards.clip import Clip
from vivavoz.data.video.clips import clips_of
from vivavoz.data.video.limits import Limits
from vivavoz.data.video.sources import VideoSource


def source(path, **more):
    return VideoSource(name="a", path=str(path), identity="anna", licence="CC0", origin=path.name, **more)


def clips(path, limits=None, **more):
    with simple_senses() as senses:
        return list(clips_of(source(path, **more), senses, limits or Limits()))


def test_a_video_becomes_a_clip(tmp_path):
    samples = write_talking(tmp_path / "a.mp4")
    (clip,) = clips(tmp_path / "a.mp4")
    assert isinstance(clip, Clip), clip
    print(clip.info)
    assert clip.frames.shape == (75, 512, 512, 3)
    assert np.corrcoef(clip.samples, samples)[0, 1] > 0.95
    assert np.corrcoef(clip.labels["lip_shape"][:, 0], speech(3.0)[1])[0, 1] > 0.95
