import itertools
import json
import math
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch

from tests.unit.train.board import check_pictures, read_board
from tests.unit.train.running import Fit, batches
from vivavoz.errors import ConfigError, DataError, TrainingError
from vivavoz.train.checkpoint import Progress, load_part, read_progress
from vivavoz.train.logs import read_log
from vivavoz.train.loop import MAX_SKIPPED_STEPS, LoopConfig, train


def config(**changes):
    defaults = {"num_steps": 6, "learning_rate": 0.01, "warmup_steps": 3, "log_every_steps": 1, "save_every_s": 1e-9}
    return LoopConfig(**{**defaults, **changes})


def losses(folder):
    """The log without its times, which no two runs share."""
    return [{name: value for name, value in line.items() if name != "seconds"} for line in read_log(folder)]


class Killed(Exception):
    pass


def killed_after(num_steps):
    def cut(first):
        yield from itertools.islice(batches(first), num_steps - first)
        raise Killed

    return cut


def test_training_lowers_the_loss(tmp_path):
    train(Fit(), batches, config(num_steps=300, log_every_steps=50), tmp_path)
    log = read_log(tmp_path)
    assert [line["step"] for line in log] == [50, 100, 150, 200, 250, 300]
    assert log[-1]["error"] < 0.3 * log[0]["error"]


@pytest.mark.parametrize("stop", [1, 2, 5])
@pytest.mark.parametrize("save_every_s", [1e-9, 1e9])
def test_a_killed_run_goes_on_bit_for_bit(tmp_path, stop, save_every_s):
    settings = config(ema_decay=0.8, save_every_s=save_every_s)
    whole, resumed = Fit(noise=0.1), Fit(noise=0.1)
    train(whole, batches, settings, tmp_path / "whole")
    with pytest.raises(Killed):
        train(Fit(noise=0.1), killed_after(stop), settings, tmp_path / "killed")
    assert read_progress(tmp_path / "killed").step == (stop if save_every_s < 1 else 0)
    train(resumed, batches, settings, tmp_path / "killed")
    assert losses(tmp_path / "killed") == losses(tmp_path / "whole")
    for name, weight in whole.state_dict().items():
        assert torch.equal(weight, resumed.state_dict()[name])
    one, two = Fit().out, Fit().out
    load_part(tmp_path / "whole", "out", one)
    load_part(tmp_path / "killed", "out", two)
    assert torch.equal(one.weight, two.weight)
    assert not torch.equal(one.weight, whole.out.weight)  # the average, not the last


def test_a_process_killed_at_once_goes_on_bit_for_bit(tmp_path):
    command = [sys.executable, "-m", "tests.unit.train.running", str(tmp_path / "killed"), "none", "400"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        seen = [json.loads(process.stdout.readline()) for _ in range(5)]
        process.send_signal(signal.SIGKILL)
    assert [line["step"] for line in seen] == [1, 2, 3, 4, 5]
    left = read_progress(tmp_path / "killed").step
    assert 4 <= left < 400
    settings = config(num_steps=400, ema_decay=0.9)
    # The schedule is that of 400 steps; both runs are looked at a few steps after the kill.
    for folder in ("killed", "whole"):
        with pytest.raises(Killed):
            train(Fit(), killed_after(left + 4), settings, tmp_path / folder)
    assert losses(tmp_path / "killed") == losses(tmp_path / "whole")
    assert len(losses(tmp_path / "whole")) == left + 4


def test_a_finished_run_is_not_trained_again(tmp_path):
    train(Fit(), batches, config(), tmp_path)
    again = Fit()
    assert train(again, killed_after(0), config(), tmp_path).step == 6
    trained = Fit().out
    load_part(tmp_path, "out", trained)
    assert torch.equal(again.out.weight, trained.weight)


def test_a_step_without_a_finite_gradient_is_skipped_and_told(tmp_path):
    def one_bad(first):
        for step, (x, y) in enumerate(batches(first), first):
            yield x, (y * math.nan if step == 2 else y)

    model, told = Fit(), []
    train(model, one_bad, config(log_every_steps=6), tmp_path, report=told.append)
    assert told[0]["skipped"] == 1
    assert math.isfinite(told[0]["error"])
    assert all(weight.isfinite().all() for weight in model.parameters())


def test_nothing_but_nan_ends_the_run(tmp_path):
    bad = ((x, y * math.nan) for x, y in batches(0))
    with pytest.raises(TrainingError, match="lower learning rate"):
        train(Fit(), lambda first: bad, config(num_steps=10 * MAX_SKIPPED_STEPS), tmp_path)


def test_data_that_ends_is_told(tmp_path):
    with pytest.raises(TrainingError, match="ended at step 2"):
        train(Fit(), lambda first: itertools.islice(batches(first), 2), config(), tmp_path)


def test_the_rate_warms_up_and_falls():
    settings = config(num_steps=100, warmup_steps=10, final_rate=0.1)
    rates = [settings.rate(Progress(step, 0.0)) for step in range(101)]
    assert rates[0] == pytest.approx(0.001, rel=0.01)
    assert rates.index(max(rates)) == 9
    assert rates[55] == pytest.approx(0.01 * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * 0.55))))
    assert rates[100] == pytest.approx(0.001)
    by_time = LoopConfig(budget_s=50, learning_rate=1.0, warmup_steps=1)
    assert by_time.rate(Progress(7, 25.0)) == pytest.approx(0.02 + 0.98 * 0.5)


@pytest.mark.parametrize("changes", [{"num_steps": 0}, {"budget_s": 3.0}, {"ema_decay": 1.0}])
def test_a_config_that_cannot_be_is_refused(changes):
    with pytest.raises(ConfigError, match="expected"):
        config(**changes)


def test_what_is_frozen_stays(tmp_path):
    model, before = Fit(), Fit()
    train(model, batches, config(), tmp_path)
    assert torch.equal(model.front.weight, before.front.weight)
    assert not torch.equal(model.out.weight, before.out.weight)
    assert not model.training


def test_bf16_learns_too(tmp_path):
    train(Fit(), batches, config(num_steps=200, log_every_steps=50, bf16=True), tmp_path)
    log = read_log(tmp_path)
    assert log[-1]["error"] < 0.5 * log[0]["error"]


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    train(Fit(), batches, config(), tmp_path)
    other = Fit()
    other.blocks.append(torch.nn.Linear(8, 8))
    with pytest.raises(DataError, match=r"blocks\.2"):
        train(other, batches, config(num_steps=9), tmp_path)


def test_a_step_of_two_batches_is_a_step_of_both_together(tmp_path):
    def halves(first):
        return ((x[half::2], y[half::2]) for x, y in batches(first) for half in (0, 1))

    train(Fit(), batches, config(), tmp_path / "whole")
    train(Fit(), halves, config(accumulate_steps=2), tmp_path / "halves")
    for one, two in zip(losses(tmp_path / "whole"), losses(tmp_path / "halves"), strict=True):
        assert two == pytest.approx(one, rel=1e-5)
    with pytest.raises(ConfigError, match="accumulate_steps"):
        config(accumulate_steps=0)


def test_tensorboard_shows_what_the_log_says_and_the_rate(tmp_path):
    settings = config(num_steps=4)
    train(Fit(), batches, settings, tmp_path)
    scalars, _ = read_board(tmp_path)
    assert scalars["error"] == pytest.approx({line["step"]: line["error"] for line in read_log(tmp_path)})
    assert scalars["rate"] == pytest.approx({step + 1: settings.rate(Progress(step)) for step in range(4)})
    assert set(scalars["skipped"].values()) == {0.0}


def test_pictures_come_now_and_then_and_at_the_end_and_change_nothing(tmp_path):
    for folder, show_every_steps in (("often", 2), ("seldom", 1000)):
        train(Fit(noise=0.1), batches, config(num_steps=5), tmp_path / folder, show_every_steps=show_every_steps)
    assert losses(tmp_path / "often") == losses(tmp_path / "seldom")
    _, often = read_board(tmp_path / "often")
    _, seldom = read_board(tmp_path / "seldom")
    assert set(often["true_found"]) == {2, 4, 5}
    assert set(seldom["true_found"]) == {5}
    assert np.array_equal(often["true_found"][5], seldom["true_found"][5])
    assert not np.array_equal(often["true_found"][2], often["true_found"][5])
    check_pictures(tmp_path / "often", {"true_found"}, 5)


def test_a_resumed_run_shows_what_it_would_have_shown(tmp_path):
    settings = config(num_steps=5)
    train(Fit(noise=0.1), batches, settings, tmp_path / "whole", show_every_steps=2)
    with pytest.raises(Killed):
        train(Fit(noise=0.1), killed_after(3), settings, tmp_path / "killed", show_every_steps=2)
    train(Fit(noise=0.1), batches, settings, tmp_path / "killed", show_every_steps=2)
    (_, whole), (_, killed) = read_board(tmp_path / "whole"), read_board(tmp_path / "killed")
    assert whole["true_found"].keys() == killed["true_found"].keys()
    assert all(np.array_equal(sheet, killed["true_found"][step]) for step, sheet in whole["true_found"].items())


def test_a_step_divided_otherwise_is_told(tmp_path, caplog):
    train(Fit(), batches, config(num_steps=2), tmp_path)
    train(Fit(), batches, config(num_steps=3), tmp_path)
    train(Fit(), batches, config(num_steps=4, accumulate_steps=2), tmp_path)
    (record,) = (record for record in caplog.records if record.name == "vivavoz")
    assert "from step 3 on a step is divided into 2 batches" in record.getMessage()
    assert read_progress(tmp_path).num_batches == 2


@pytest.mark.parametrize("kind", ["ddp", "fsdp"])
def test_two_processes_do_what_one_does(tmp_path, kind):
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node=2",
        "-m",
        "tests.unit.train.running",
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([*command, str(tmp_path / "two"), kind, "6"], check=True, env=environment, capture_output=True)
    train(Fit(), batches, config(ema_decay=0.9), tmp_path / "one")
    one, two = losses(tmp_path / "one"), losses(tmp_path / "two")
    assert [line["step"] for line in two] == [1, 2, 3, 4, 5, 6]
    for first, second in zip(one, two, strict=True):
        assert second == pytest.approx(first, rel=1e-5)
    assert set(read_board(tmp_path / "two")[1]["true_found"]) == {2, 4, 6}
    # A run of two processes can be read, and gone on with, by one.
    alone, shared = Fit().out, Fit().out
    load_part(tmp_path / "one", "out", alone)
    load_part(tmp_path / "two", "out", shared)
    torch.testing.assert_close(shared.weight, alone.weight, rtol=1e-4, atol=1e-6)
    for folder in ("one", "two"):
        train(Fit(), batches, config(num_steps=8, ema_decay=0.9), tmp_path / folder)
    assert losses(tmp_path / "two")[-1] == pytest.approx(losses(tmp_path / "one")[-1], rel=1e-4)
