"""Progress in lines, where there is no terminal."""

from __future__ import annotations

import pytest

from etinynet.show import Lines, tracked


class Clock:
    """Seconds that pass only when told."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def lines_of(clock: Clock, steps: int, seconds: float) -> list[str]:
    """Lines of so many steps that take so many seconds each."""
    written: list[str] = []
    lines = Lines(written.append, clock)
    lines.show("training", 0, steps)
    for done in range(1, steps + 1):
        clock.now += seconds
        lines.show("training", done, steps, f"loss {done / 10}")
    return written


def test_a_line_for_every_tenth_with_the_time_left(clock: Clock) -> None:
    written = lines_of(clock, 40, 1.0)
    assert len(written) == 10
    assert written[0] == "training: 4 of 40, loss 0.4, 0:00:36 left"
    assert written[-1] == "training: 40 of 40, loss 4.0"


def test_slow_work_writes_every_half_minute(clock: Clock) -> None:
    written = lines_of(clock, 1000, 10.0)
    assert len(written) > 300
    assert written[0] == "training: 3 of 1,000, loss 0.3, 2:46:10 left"


def test_quick_work_writes_nothing_and_other_work_its_end(clock: Clock) -> None:
    assert lines_of(clock, 100, 0.01) == []
    assert lines_of(clock, 3, 0.7) == ["training: 3 of 3, loss 0.3"]


def test_time_left_counts_from_where_it_began(clock: Clock) -> None:
    """A resumed training does not pass for a quick one."""
    written: list[str] = []
    lines = Lines(written.append, clock)
    lines.show("training", 90, 100)
    clock.now = 30.0
    lines.show("training", 91, 100)
    assert written == ["training: 91 of 100, 0:04:30 left"]


def test_other_work_starts_anew(clock: Clock) -> None:
    written: list[str] = []
    lines = Lines(written.append, clock)
    lines.show("pictures", 1, 2)
    clock.now = 100.0
    lines.show("training", 1, 20)
    assert written == []
    clock.now = 110.0
    lines.show("training", 2, 20)
    assert written == ["training: 2 of 20, 0:03:00 left"]


def test_items_pass_through(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(tracked(iter("abc"), 3, "letters")) == ["a", "b", "c"]
    assert capsys.readouterr().err == ""
