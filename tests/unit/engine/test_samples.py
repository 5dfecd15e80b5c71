import numpy as np
import pytest

from vivavoz.engine.samples import SampleQueue


@pytest.mark.parametrize("chunk_samples", [1, 3, 10, 100])
@pytest.mark.parametrize("piece_samples", [1, 4, 7, 50])
def test_pieces_are_the_chunks_in_order(chunk_samples: int, piece_samples: int) -> None:
    samples = np.arange(100, dtype=np.float32)
    queue = SampleQueue()
    got = []
    for start in range(0, 100, chunk_samples):
        queue.push(samples[start : start + chunk_samples])
        while (piece := queue.pop(piece_samples)) is not None:
            assert len(piece) == piece_samples
            got.append(piece)
    joined = np.concatenate(got)
    assert np.array_equal(joined, samples[: len(joined)])
    assert len(queue) == 100 - len(joined) < piece_samples


def test_too_little_is_left_alone() -> None:
    queue = SampleQueue()
    queue.push(np.ones(3, np.float32))
    assert queue.pop(4) is None
    assert len(queue) == 3
    piece = queue.pop(0)
    assert piece is not None
    assert len(piece) == 0
