from __future__ import annotations

import random
import socket
from pathlib import Path

import pytest

from stowage_worker.ports import FIRST_PORT, LAST_PORT, is_free, take_port


def test_two_with_the_same_luck_get_different_ports(tmp_path: Path) -> None:
    one = take_port(random.Random(7), tmp_path)
    other = take_port(random.Random(7), tmp_path)
    assert one.number != other.number
    assert {FIRST_PORT <= port.number <= LAST_PORT for port in (one, other)} == {True}
    one.release()
    again = take_port(random.Random(7), tmp_path)
    assert again.number == one.number
    for port in (one, other, again):
        port.release()


def test_a_port_on_which_somebody_listens_is_not_free(tmp_path: Path) -> None:
    port = take_port(random.Random(3), tmp_path)
    port.release()
    with socket.create_server(("127.0.0.1", port.number)):
        assert not is_free(port.number)
        assert take_port(random.Random(3), tmp_path).number != port.number


def test_where_nothing_can_be_written_ports_are_not_kept(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    one = take_port(random.Random(7), tmp_path / "file" / "below")
    assert take_port(random.Random(7), tmp_path / "file" / "below").number == one.number
    one.release()


def test_no_port(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stowage_worker.ports.is_free", lambda _: False)
    with pytest.raises(OSError, match="no free port"):
        take_port(random.Random(1), tmp_path)
