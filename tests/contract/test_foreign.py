"""Proxies of another device's objects: known as such over every driver, and not passed on (reference 0, C4)."""

from __future__ import annotations

import pytest

import binderkit as bk
from binderkit.errors import ERR_PASSED_ON, RpcLimitError
from binderkit.ipc.rpc_proxy import RpcProxy
from tests.contract.messages import Call, body
from tests.contract.service import Code
from tests.contract.world import World


def test_whoever_gets_one_knows_and_can_call_it(world: World, call: Call) -> None:
    remote = call(world.one().root, Code.MAKE, "foreign").read_remote_object()
    assert isinstance(remote, RpcProxy)
    assert body(call(remote, 1, b"hello")) == b"hello"


def test_it_goes_home_and_to_nobody_else(world: World, call: Call) -> None:
    owner, third = world.start(2)
    remote = call(owner.root, Code.MAKE, "foreign").read_remote_object()
    with pytest.raises(RpcLimitError, match="passed on") as caught:
        call(third.root, Code.KEEP, "it", remote)
    assert caught.value.code == ERR_PASSED_ON
    with pytest.raises(bk.RemoteError, match="KeyError"):  # nothing has arrived
        call(third.root, Code.GIVE, "it")
    call(owner.root, Code.KEEP, "it", remote)
    assert call(owner.root, Code.IS_KEPT, "it", remote).read_boolean()
    call(owner.root, Code.DROP, "it")


def test_it_is_not_passed_on_in_a_reply_either(world: World, call: Call) -> None:
    owner, third = world.start(2)
    remote = call(owner.root, Code.MAKE, "foreign").read_remote_object()
    call(owner.root, Code.KEEP, "it", remote)
    with pytest.raises(bk.IpcError, match="passed on"):
        call(third.root, Code.FETCH, owner.root, "it")
    call(owner.root, Code.DROP, "it")
