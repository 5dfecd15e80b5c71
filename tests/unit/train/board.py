"""Reads back what a run told TensorBoard."""

import io

import numpy as np
import pytest
from PIL import Image


def read_board(folder):
    """Scalars as {name: {step: value}}, and pictures as {name: {step: (H, W, 3) uint8}}."""
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    board = events.EventAccumulator(str(folder), size_guidance={events.IMAGES: 0, events.SCALARS: 0})
    board.Reload()
    tags = board.Tags()
    scalars = {name: {event.step: event.value for event in board.Scalars(name)} for name in tags["scalars"]}
    pictures = {
        name: {event.step: np.asarray(Image.open(io.BytesIO(event.encoded_image_string))) for event in board.Images(name)}
        for name in tags["images"]
    }
    return scalars, pictures


def check_pictures(folder, names, step):
    """The run shows these pictures after its last step, and there is something to see in each."""
    scalars, pictures = read_board(folder)
    assert set(pictures) == set(names)
    for sheets in pictures.values():
        assert max(sheets) == step
        for sheet in sheets.values():
            assert sheet.ndim == 3
            assert sheet.shape[2] == 3
            assert sheet.reshape(-1, 3).std(axis=0).max() > 5
    assert {"norm", "rate", "skipped"} <= set(scalars)
    assert all(value > 0 for value in scalars["rate"].values())
