import json

import pytest
import torch
from torch import nn

from vivavoz.errors import DataError
from vivavoz.train import checkpoint
from vivavoz.train.average import Average
from vivavoz.train.checkpoint import Progress, load_checkpoint, load_part, read_progress, save_checkpoint


class Pair(nn.Module):
    def __init__(self, width=3):
        super().__init__()
        self.first, self.second = nn.Linear(width, 2), nn.Linear(2, 1)

    def forward(self, x):
        return self.second(self.first(x))


def trained(width=3, seed=0):
    torch.manual_seed(seed)
    model = Pair(width)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    for _ in range(3):
        step(model, optimizer, torch.randn(4, width))
    return model, optimizer


def step(model, optimizer, x=None):
    model(torch.ones(1, 3) if x is None else x).square().sum().backward()
    optimizer.step()
    optimizer.zero_grad()


def test_everything_comes_back_and_the_next_step_is_the_same(tmp_path):
    model, optimizer = trained()
    average = Average(model, 0.5)
    step(model, optimizer)
    average.update()
    save_checkpoint(tmp_path, Progress(7, 1.5), model, optimizer, average)
    other, other_optimizer = trained(seed=1)
    other_average = Average(other, 0.5)
    assert load_checkpoint(tmp_path, other, other_optimizer, other_average) == Progress(7, 1.5)
    for one, two, mean in ((model, optimizer, average), (other, other_optimizer, other_average)):
        step(one, two)
        mean.update()
    assert all(torch.equal(weight, other.state_dict()[name]) for name, weight in model.state_dict().items())
    assert all(torch.equal(mean, other_average.state_dict()[name]) for name, mean in average.state_dict().items())
    assert average.num_updates == other_average.num_updates == 2


def test_a_fresh_optimizer_takes_over_as_well(tmp_path):
    model, optimizer = trained()
    save_checkpoint(tmp_path, Progress(7, 1.5), model, optimizer)
    other = Pair()
    other_optimizer = torch.optim.AdamW(other.parameters(), lr=0.3)
    load_checkpoint(tmp_path, other, other_optimizer)
    step(model, optimizer)
    step(other, other_optimizer)
    assert torch.equal(model.first.weight, other.first.weight)


def test_what_has_not_learnt_yet_begins_to_as_if_never_stopped(tmp_path):
    def half_trained():
        torch.manual_seed(0)
        model = Pair()
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
        model.first(torch.ones(1, 3)).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        return model, optimizer

    model, optimizer = half_trained()
    save_checkpoint(tmp_path, Progress(1, 1.0), model, optimizer)
    other = Pair()
    other_optimizer = torch.optim.AdamW(other.parameters(), lr=0.01)
    load_checkpoint(tmp_path, other, other_optimizer)
    for one, two in ((model, optimizer), (other, other_optimizer)):
        step(one, two)
        step(one, two)
    assert all(torch.equal(weight, other.state_dict()[name]) for name, weight in model.state_dict().items())


def test_a_part_is_read_alone_and_averaged_where_an_average_was_kept(tmp_path):
    model, optimizer = trained()
    save_checkpoint(tmp_path / "plain", Progress(7, 1.5), model, optimizer)
    assert read_progress(tmp_path / "plain") == Progress(7, 1.5)
    part = nn.Linear(3, 2)
    load_part(tmp_path / "plain", "first", part)
    assert torch.equal(part.weight, model.first.weight)
    average = Average(model, 0.5)
    before = model.first.weight.detach().clone()
    step(model, optimizer)
    average.update()
    save_checkpoint(tmp_path / "averaged", Progress(8, 1.5), model, optimizer, average)
    load_part(tmp_path / "averaged", "first", part)
    # Early on an average forgets fast: the first update moves it nine tenths of the way.
    torch.testing.assert_close(part.weight, 0.1 * before + 0.9 * model.first.weight)
    with pytest.raises(DataError, match="third"):
        load_part(tmp_path / "averaged", "third", part)


def test_no_checkpoint_is_a_fresh_start(tmp_path):
    model, optimizer = trained()
    before = model.first.weight.clone()
    assert load_checkpoint(tmp_path, model, optimizer) == Progress(0, 0.0)
    assert read_progress(tmp_path / "nowhere") == Progress(0, 0.0)
    assert torch.equal(model.first.weight, before)
    with pytest.raises(DataError, match="no checkpoint"):
        load_part(tmp_path, "first", model.first)


def test_a_kill_while_writing_leaves_the_old_one(tmp_path, monkeypatch):
    model, optimizer = trained()
    save_checkpoint(tmp_path, Progress(1, 1.0), model, optimizer)
    before = model.first.weight.clone()
    step(model, optimizer)

    def killed_half_way(content, checkpoint_id, **_):
        checkpoint_id.mkdir()
        (checkpoint_id / "__0_0.distcp").write_bytes(b"half of")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save", killed_half_way)
        with pytest.raises(KeyboardInterrupt):
            save_checkpoint(tmp_path, Progress(2, 2.0), model, optimizer)
    assert load_checkpoint(tmp_path, model, optimizer) == Progress(1, 1.0)
    assert torch.equal(model.first.weight, before)
    save_checkpoint(tmp_path, Progress(2, 2.0), model, optimizer)
    assert read_progress(tmp_path) == Progress(2, 2.0)
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint-00000002"]


def facts(path, **changes):
    file = path / "progress.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def cut_short(path):
    (data,) = path.glob("*.distcp")
    data.write_bytes(data.read_bytes()[:100])


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: (path / "progress.json").write_text("not a checkpoint\nat all"),
        lambda path: (path / "progress.json").write_text("[3]"),
        lambda path: (path / "progress.json").write_text("{}"),
        lambda path: (path / "progress.json").write_bytes(b"\xff\xfe"),
        lambda path: facts(path, format=99),
        lambda path: (path / ".metadata").unlink(),
        lambda path: (path / ".metadata").write_bytes(b"no pickle"),
        cut_short,
    ],
)
def test_what_is_no_checkpoint_is_refused_in_one_line(tmp_path, damage):
    model, optimizer = trained()
    save_checkpoint(tmp_path, Progress(1, 1.0), model, optimizer)
    damage(tmp_path / "checkpoint-00000001")
    with pytest.raises(DataError, match="checkpoint-00000001") as caught:
        load_checkpoint(tmp_path, model, optimizer)
    assert "\n" not in str(caught.value)


def test_another_model_is_refused(tmp_path):
    model, optimizer = trained()
    save_checkpoint(tmp_path, Progress(1, 1.0), model, optimizer)
    wide, wide_optimizer = trained(width=4)
    with pytest.raises(DataError, match=r"first\.weight of shape \(2, 3\), expected \(2, 4\)"):
        load_checkpoint(tmp_path, wide, wide_optimizer)
    with pytest.raises(DataError, match=r"has no average\.first"):
        load_checkpoint(tmp_path, model, optimizer, Average(model, 0.9))
