"""Which files are read at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from db import QueryFileError, load_queries, read_regular

KEYS = ("email", "userId", "user fields", "event", "event fields", "event time", "event id")


def test_a_link_to_a_file_is_read_and_one_to_a_pipe_or_device_is_not_waited_for(
    tmp_path: Path,
) -> None:
    link = tmp_path / "link.sql"
    (tmp_path / "file.sql").write_text("-- name: x\nSELECT 1")
    os.mkfifo(tmp_path / "pipe.sql")
    link.symlink_to(tmp_path / "file.sql")
    assert load_queries(link, KEYS)["x"].sql == "SELECT 1"
    for target in (tmp_path / "pipe.sql", Path("/dev/zero")):
        link.unlink()
        link.symlink_to(target)
        with pytest.raises(
            QueryFileError, match=r"link\.sql cannot be read: .* a pipe or a device"
        ):
            load_queries(link, KEYS)


def test_a_regular_file_is_read_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "some.env"
    path.write_bytes(b"\xff\r\n\0")
    assert read_regular(path, 4) == b"\xff\r\n\0"
    with pytest.raises(OSError, match="it has more than 3 bytes"):
        read_regular(path, 3)
