from __future__ import annotations

import pytest

from vivavoz.serve.ladder import Ladder, Rung, rungs


def pairs(ladder: list[Rung]) -> list[tuple[int, int]]:
    return [(rung.num_steps, rung.block_latents) for rung in ladder]


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ((1, 1, 1), [(1, 1)]),
        ((2, 1, 2), [(2, 1), (1, 1), (1, 2)]),
        ((12, 1, 4), [(12, 1), (6, 1), (3, 1), (1, 1), (1, 2), (1, 4)]),
        ((1, 4, 2), [(1, 4)]),
    ],
)
def test_steps_go_first_and_then_quick_reactions(wanted: tuple[int, int, int], expected: list[tuple[int, int]]) -> None:
    assert pairs(rungs(*wanted)) == expected


def test_a_late_picture_by_itself_costs_no_rung() -> None:
    ladder = Ladder(rungs(4, 1, 1))
    for at_s in (10.0, 10.9, 30.0, 30.5, 60.0):
        ladder.was_late(at_s, block_s=0.1)
    assert ladder.level == 0


def test_blocks_that_take_longer_than_a_spell_cost_a_rung_each() -> None:
    ladder = Ladder(rungs(4, 1, 1))
    levels = []
    for at_s in (10.0, 25.0, 40.0):
        ladder.was_late(at_s, block_s=15.0)
        levels.append(ladder.level)
    assert levels == [0, 1, 2]


def test_a_late_picture_on_the_rung_above_costs_no_rung_and_more_of_them_do() -> None:
    ladder = Ladder(rungs(4, 1, 1))
    for at_s in (10.0, 11.1):
        ladder.was_late(at_s, block_s=0.1)
    ladder.went_well(32.0, busy=0.1)
    ladder.was_late(32.2, block_s=0.1)
    assert ladder.level == 0
    ladder.was_late(33.3, block_s=0.1)
    assert ladder.level == 1


def test_a_rung_down_takes_a_second_and_a_rung_up_a_while_and_room() -> None:
    ladder = Ladder(rungs(4, 1, 1))
    for at_s in (10.0, 10.9, 11.1):
        ladder.was_late(at_s, block_s=0.1)
    assert ladder.level == 1
    for at_s in (11.5, 12.2, 13.3):
        ladder.was_late(at_s, block_s=0.1)
    assert (ladder.level, ladder.rung.num_steps) == (2, 1)
    ladder.went_well(33.0, busy=0.1)
    ladder.went_well(33.4, busy=0.7)
    assert ladder.level == 2
    ladder.went_well(33.4, busy=0.5)
    assert ladder.level == 1
    ladder.went_well(50.0, busy=0.1)
    assert ladder.level == 1
    ladder.went_well(53.5, busy=0.1)
    assert ladder.level == 0
