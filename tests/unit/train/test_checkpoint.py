import pytest
import torch
from torch import nn

from vivavoz.errors import DataError
from vivavoz.train.checkpoint import Progress, load_checkpoint, read_progress, read_weights, save_checkpoint


def trained(width=3, seed=0):
    torch.manual_seed(seed)
    model = nn.Linear(width, 2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    for _ in range(3):
        model(torch.randn(4, width)).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    return model, optimizer


def step(model, optimizer):
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    optimizer.zero_grad()


def test_everything_comes_back_and_the_next_step_is_the_same(tmp_path):
    model, optimizer = trained()
    save_checkpoint(tmp_path / "new" / "a.pt", Progress(7, 1.5), {"model": model}, optimizer)
    other, other_optimizer = trained(seed=1)
    assert load_checkpoint(tmp_path / "new" / "a.pt", {"model": other}, other_optimizer) == Progress(7, 1.5)
    step(model, optimizer)
    step(other, other_optimizer)
    assert torch.equal(model.weight, other.weight)
    assert torch.equal(model.bias, other.bias)


def test_progress_and_weights_can_be_read_alone(tmp_path):
    model, optimizer = trained()
    save_checkpoint(tmp_path / "a.pt", Progress(7, 1.5), {"model": model}, optimizer)
    assert read_progress(tmp_path / "a.pt") == Progress(7, 1.5)
    weights = read_weights(tmp_path / "a.pt", "model")
    assert torch.equal(weights["weight"], model.weight)
    with pytest.raises(DataError, match=r"a\.pt"):
        read_weights(tmp_path / "a.pt", "other")


def test_no_file_is_a_fresh_start(tmp_path):
    model, optimizer = trained()
    before = model.weight.clone()
    assert load_checkpoint(tmp_path / "a.pt", {"model": model}, optimizer) == Progress(0, 0.0)
    assert read_progress(tmp_path / "a.pt") == Progress(0, 0.0)
    assert torch.equal(model.weight, before)
    with pytest.raises(DataError, match="resumed"):
        read_weights(tmp_path / "a.pt", "model")


def test_a_kill_while_writing_leaves_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "a.pt"
    model, optimizer = trained()
    save_checkpoint(path, Progress(1, 1.0), {"model": model}, optimizer)
    before = model.weight.clone()
    step(model, optimizer)

    def killed_half_way(content, file):
        file.write_bytes(b"PK half of")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", killed_half_way)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(path, Progress(2, 2.0), {"model": model}, optimizer)
    assert load_checkpoint(path, {"model": model}, optimizer) == Progress(1, 1.0)
    assert torch.equal(model.weight, before)
    monkeypatch.undo()
    save_checkpoint(path, Progress(3, 3.0), {"model": model}, optimizer)
    assert read_progress(path) == Progress(3, 3.0)
    assert [file.name for file in tmp_path.iterdir()] == ["a.pt"]


def write_text(path):
    path.write_text("not a checkpoint\nat all")


def write_words(path):
    path.write_text("something else")


def write_empty(path):
    path.write_bytes(b"")


def write_bare_weights(path):
    torch.save(nn.Linear(3, 2).state_dict(), path)


def write_a_tensor(path):
    torch.save(torch.zeros(3), path)


def write_cut_short(path):
    model, optimizer = trained()
    save_checkpoint(path, Progress(1, 1.0), {"model": model}, optimizer)
    path.write_bytes(path.read_bytes()[:-200])


def write_another_model(path):
    model, optimizer = trained(width=4)
    save_checkpoint(path, Progress(1, 1.0), {"model": model}, optimizer)


def write_another_name(path):
    model, optimizer = trained()
    save_checkpoint(path, Progress(1, 1.0), {"other": model}, optimizer)


def write_another_format(path):
    model, optimizer = trained()
    save_checkpoint(path, Progress(1, 1.0), {"model": model}, optimizer)
    torch.save({**torch.load(path, weights_only=True), "format": 99}, path)


@pytest.mark.parametrize(
    "write",
    [
        write_text,
        write_words,
        write_empty,
        write_bare_weights,
        write_a_tensor,
        write_cut_short,
        write_another_model,
        write_another_name,
        write_another_format,
    ],
)
def test_what_is_no_checkpoint_of_this_run_is_refused_in_one_line(tmp_path, write):
    path = tmp_path / "a.pt"
    write(path)
    model, optimizer = trained()
    with pytest.raises(DataError, match=r"a\.pt") as caught:
        load_checkpoint(path, {"model": model}, optimizer)
    assert "\n" not in str(caught.value)
