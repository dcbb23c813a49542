"""Keys that come more than once, however many there are."""

from __future__ import annotations

import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from db import Differences, Tally

MANY = 450_000  # more than are looked at together


def test_keys_that_come_more_than_once_are_counted(tally: Tally) -> None:
    tally.note(range(-5, MANY))
    tally.note([3, 7, 7, MANY + 1, -5, -5])
    assert tally.count_repeated() == 3
    tally.note([8, MANY + 1])
    assert tally.count_repeated() == 5, "it can be asked again"


@pytest.fixture
def tally(tmp_path: Path) -> Iterator[Tally]:
    """A tally."""
    tally = Tally(tmp_path)
    yield tally
    tally.close()


@pytest.fixture
def differences(tmp_path: Path) -> Iterator[Differences]:
    """Differences."""
    differences = Differences(tmp_path)
    yield differences
    differences.close()


@pytest.mark.parametrize(
    ("entries", "counts"),
    [
        ([], {}),
        ([(1, 10, 1, 5), (1, 10, 2, 5)], {}),
        ([(1, 10, 1, 5), (1, 11, 2, 5)], {5: 1}),
        ([(1, 10, 1, 5), (1, 11, 1, 5)], {}),
        ([(1, 9, 1, 5), (1, 10, 1, 5), (1, 10, 2, 5)], {}),
        ([(1, 9, 1, 5), (1, 10, 1, 5), (1, 9, 2, 5)], {5: 1}),
        ([(1, 1, 1, 5), (1, 2, 2, 5), (1, 3, 3, 5), (2, 1, 1, 6), (2, 2, 2, 6)], {5: 1, 6: 1}),
    ],
)
def test_keys_with_other_values_from_other_sources_are_counted(
    differences: Differences, entries: list[tuple[int, int, int, int]], counts: dict[int, int]
) -> None:
    differences.note(entries)
    assert differences.count() == counts


def test_differences_far_apart_are_found(differences: Differences) -> None:
    differences.note((key, 0, 1, 0) for key in range(MANY))
    differences.note((key, key % 100_000 == 0, 2, 0) for key in range(MANY))
    assert differences.count() == {0: 5}


def test_nothing_is_left_and_a_full_disk_means_that_nothing_is_known(
    tally: Tally, tmp_path: Path
) -> None:
    tally.note([1, 1])
    assert list(tmp_path.iterdir()) == []
    tally.close()
    tally.note([2, 2])
    assert tally.count_repeated() == 0


@contextmanager
def small_disk(size: int) -> Iterator[None]:
    """Makes files end after so many bytes, as on a disk that is nearly full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:  # pytest itself may be writing to a file
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize("size", [0, 8192 + 12, 1_000_000])
def test_where_there_is_not_room_enough_nothing_is_known(tally: Tally, size: int) -> None:
    with small_disk(size):
        tally.note([*range(MANY), 1])
    assert tally.count_repeated() == 0


def test_where_no_file_can_be_made_nothing_is_known(tmp_path: Path) -> None:
    tally = Tally(tmp_path / "none")
    tally.note([*range(MANY), 1])
    assert tally.count_repeated() == 0
    tally.close()
