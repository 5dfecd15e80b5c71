"""What the tests of synthesised speech need of the system: they are skipped where it lacks espeak-ng."""

import ctypes

import pytest


def has_espeak() -> bool:
    try:
        ctypes.CDLL("libespeak-ng.so.1")
    except OSError:
        return False
    return True


needs_espeak = pytest.mark.skipif(not has_espeak(), reason="needs espeak-ng: apt-get install espeak-ng")
