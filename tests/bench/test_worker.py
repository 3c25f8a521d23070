"""What a client process does with a contender, whichever it is."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from bench import worker
from bench.peers.base import Peer


class Fake(Peer):
    name = "fake"

    def __init__(self) -> None:
        super().__init__(Path("unused"))
        self.threads: set[int] = set()
        self.all_there = threading.Barrier(3)

    def connect(self) -> None:
        raise NotImplementedError

    def echo(self, value: int) -> int:
        if threading.get_ident() not in self.threads:
            self.threads.add(threading.get_ident())
            self.all_there.wait(10)
        return value

    def put(self, data: bytes) -> int:
        raise NotImplementedError


class Mixed(Fake):
    def echo(self, value: int) -> int:
        return 0


def test_a_crowd_calls_at_the_same_time() -> None:
    peer = Fake()
    assert worker.crowd(peer, 0.05, 3)["per_second"] > 0
    assert len(peer.threads) == 3


def test_a_crowd_whose_replies_are_mixed_up_has_failed() -> None:
    with pytest.raises(AssertionError, match="wrong call"):
        worker.crowd(Mixed(), 0.05, 3)
