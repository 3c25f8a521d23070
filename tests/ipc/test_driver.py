"""Which driver this process uses; the socket driver fits the interface."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from binderkit.driver.unix.node import Node
from binderkit.errors import IpcError
from binderkit.ipc import driver


@pytest.fixture(autouse=True)
def restored(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(driver, "_driver", None)
    monkeypatch.setattr(driver, "_factory", None)
    yield


def test_without_a_factory_the_error_says_what_to_do() -> None:
    assert driver.peek_driver() is None
    with pytest.raises(IpcError, match="import binderkit, or call set_driver"):
        driver.current_driver()


def test_the_driver_is_made_once() -> None:
    node = Node(title="made")
    made: list[Node] = []
    driver.set_default_factory(lambda: made.append(node) or node)  # type: ignore[func-returns-value]
    try:
        assert driver.current_driver() is driver.current_driver() is node
        assert made == [node]
        assert isinstance(node, driver.Driver)
    finally:
        node.close()
