"""Fixtures of the contract suite: a world for each driver, and the two faces of a call."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from typing import Any

import pytest

import binderkit as bk
from binderkit.ipc import loop as handler_loop
from tests.contract.forks import running_server
from tests.contract.messages import Call, message, transact
from tests.contract.world import WORLDS, World, open_world


@pytest.fixture(autouse=True)
def no_frames_in_the_log() -> Iterator[None]:
    """Turn logged exceptions into text at once: pytest keeps records, and they would keep what their frames hold."""
    logger, formatter = logging.getLogger("binderkit.ipc"), logging.Formatter()

    def as_text(record: logging.LogRecord) -> bool:
        if record.exc_info:
            record.exc_text = formatter.formatException(record.exc_info)
            record.exc_info = None
        return True

    logger.addFilter(as_text)
    yield
    logger.removeFilter(as_text)


@pytest.fixture(scope="session", autouse=True)
def fork_server() -> Iterator[None]:
    """What forks the children of the kernel's world: it lives as long as the session, so no case is blamed for it."""
    if "kernel" not in WORLDS:
        yield
        return
    with running_server():
        yield


@pytest.fixture(params=list(WORLDS))
def driver_name(request: pytest.FixtureRequest) -> str:
    """Every driver in turn."""
    return str(request.param)


@pytest.fixture
def world(driver_name: str) -> Iterator[World]:
    """This process and others, over each driver; checked for leaks after the case."""
    try:
        with open_world(driver_name) as world:
            yield world
    finally:
        handler_loop.stop()


@pytest.fixture(params=["sync", "asyncio"])
def call(request: pytest.FixtureRequest, world: World) -> Iterator[Call]:
    """Both faces: send_request, and send_message_request on a loop of the case."""
    if request.param == "sync":
        yield transact
        return
    with asyncio.Runner() as runner:

        async def ask(target: bk.IRemoteObject, code: int, *values: Any, option: Any = None) -> bk.MessageSequence:
            with message(*values) as data:
                result = await target.send_message_request(code, data, bk.MessageSequence(), option)
            assert (result.err_code, result.code) == (0, code)
            return result.reply

        yield lambda *values, **options: runner.run(ask(*values, **options))
