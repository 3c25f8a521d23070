"""``echo``: the service of service.py in another process, on the loopback, and in this process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import binderkit as bk
from binderkit import process
from binderkit.interface import proxy
from binderkit.ipc.remote import IRemoteObject
from binderkit.testing import loopback
from tests.interface.service import Echo, IEcho


@pytest.fixture(params=["process", "loopback", "here"])
def remote(request: pytest.FixtureRequest) -> Iterator[IRemoteObject]:
    if request.param == "process":
        try:
            with bk.spawn(Echo) as child:
                yield child.root
        finally:
            process.shutdown()
        return
    if request.param == "loopback":
        with loopback() as pair:
            yield pair.offer(Echo())
        return
    yield Echo().as_object()


@pytest.fixture
def echo(remote: IRemoteObject) -> IEcho:
    return proxy(IEcho, remote)
