import numpy as np

from tests.models import speech
from tests.unit.evaluate.material import drawn_portrait
from vivavoz.data.corpus import Portraits, Reader, split
from vivavoz.data.performance import perform
from vivavoz.data.phonemes import Phoneme
from vivavoz.evaluate.loading import choose_material, spread

NAMES = tuple(f"{i:02}.png" for i in range(14))


def portraits():
    drawn = drawn_portrait()
    return Portraits(images=np.stack([drawn.image] * 14), landmarks=np.stack([drawn.landmarks] * 14), names=NAMES)


def readers():
    phonemes = (Phoneme(symbol="AA", start_s=0.0, end_s=0.6),)
    return [Reader(name=f"{i}.wav", samples=speech(640 * 15, i), phonemes=phonemes) for i in range(7)]


def test_only_what_training_holds_back_is_chosen():
    chosen = choose_material(portraits(), readers(), num_portraits=5, num_speeches=5)
    _, held = split(NAMES, 20)
    assert [portrait.name for portrait in chosen.portraits] == [NAMES[i] for i in held]
    (talk,) = chosen.speeches
    assert talk.name == "0.wav"
    assert np.array_equal(talk.motion, perform(readers()[0].samples, seed=0, phonemes=readers()[0].phonemes).motion)


def test_all_may_be_chosen():
    chosen = choose_material(portraits(), readers(), num_portraits=4, num_speeches=1, held_only=False)
    assert [portrait.name for portrait in chosen.portraits] == ["00.png", "03.png", "07.png", "10.png"]
    assert len(chosen.speeches) == 1


def test_spread():
    assert spread([1, 2, 3], 5) == [1, 2, 3]
    assert spread(list(range(10)), 3) == [0, 3, 6]
