"""interop/service_manager.py: raw parcels of every generation over the loopback driver, and bytes nobody meant well."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import binderkit as bk
from binderkit import limits
from binderkit.driver.loopback import LoopbackNetwork, LoopbackProcess
from binderkit.errors import (
    IpcError,
    ParamValueError,
    RefusedError,
    RemoteError,
    ServiceError,
    ServiceNotFoundError,
)
from binderkit.interop import AIDL, AIDL2, AIDL3, AIDL4, AndroidParcel, AndroidServiceManager, Stability, Wire
from binderkit.interop.service_manager import (
    BAD_VALUE,
    INTERFACE,
    INVALID_OPERATION,
    NAME_NOT_FOUND,
    PERMISSION_DENIED,
    UNKNOWN_TRANSACTION,
    StatusReply,
    variant_for,
)
from binderkit.ipc.context import Caller, calling_identity
from binderkit.ipc.remote import HandlerResult, IRemoteObject
from tests.interop.test_android_parcel import HEADERS, NULL_RECORD, bodies

LEVELS = {27: AIDL, 28: AIDL, 29: AIDL2, 30: AIDL3, 31: AIDL4, 33: AIDL3, 35: AIDL3, 36: AIDL3}
CODES = {
    **{level: {"get": 1, "check": 2, "add": 3, "list": 4} for level in (27, 28, 29, 30, 31, 33)},
    35: {"get": 1, "check": 3, "add": 4, "list": 5},
    36: {"get": 1, "check": 3, "add": 5, "list": 6},
}
every_level = pytest.mark.parametrize("level", LEVELS)
SINCE_11 = [level for level in LEVELS if level >= 30]


class FakeRegistry:
    """Keeps services in a dict; refuses what a test says, and starts "lazy" when somebody gets it."""

    def __init__(self) -> None:
        self.services: dict[str, tuple[IRemoteObject, int]] = {}
        self.lazy = bk.RemoteObject("tests.Lazy")
        self.callers: list[Caller] = []
        self.refusal: IpcError | None = None

    def get(self, name: str, caller: Caller) -> IRemoteObject | Awaitable[IRemoteObject | None] | None:
        return self._start(name) if name.startswith("lazy") else self.check(name, caller)

    async def _start(self, name: str) -> IRemoteObject | None:
        if name == "lazy-broken":
            raise ServiceError("its process ended", code=2100)
        return self.lazy if name == "lazy" else None

    def check(self, name: str, caller: Caller) -> IRemoteObject | None:
        self._ask(caller)
        return self.services[name][0] if name in self.services else None

    def add(self, name: str, remote: IRemoteObject, priorities: int, caller: Caller) -> None:
        self._ask(caller)
        assert 0 < len(name) <= 127
        assert 1 <= priorities <= 15
        self.services[name] = (remote, priorities)

    def names(self, priorities: int, caller: Caller) -> Sequence[str]:
        self._ask(caller)
        return sorted(name for name, (_, own) in self.services.items() if own & priorities)

    def _ask(self, caller: Caller) -> None:
        self.callers.append(caller)
        if self.refusal is not None:
            raise self.refusal


class Manager(bk.RemoteObject):
    """Handle 0: answers Android's programs, and a question of its own."""

    def __init__(self, registry: FakeRegistry, level: int) -> None:
        super().__init__("OHOS.ISystemAbilityManager")
        self.android = AndroidServiceManager(registry, level)

    def on_remote_message_request(
        self, code: int, data: bk.MessageSequence, reply: bk.MessageSequence, option: bk.MessageOption
    ) -> HandlerResult:
        if self.android.is_addressed(data):
            return self.android.handle(code, data, reply, calling_identity())
        reply.write_string(data.read_interface_token())
        return True


class Device:
    """A manager in one process and Android's programs in two others."""

    def __init__(self, level: int = 30) -> None:
        self.registry = FakeRegistry()
        self.network = LoopbackNetwork()
        owner = self.network.process()
        owner.become_context(Manager(self.registry, level))
        self.service = self.network.process(pid=501, uid=1001)
        self.client = self.network.process(pid=502, uid=1002)

    def __enter__(self) -> Device:
        return self

    def __exit__(self, *_: object) -> None:
        self.registry.services.clear()
        self.network.close()

    def ask(self, who: LoopbackProcess, wire: Wire, code: int, data: AndroidParcel) -> AndroidParcel:
        reply = bk.MessageSequence()
        who.context_object(start=False).send_request(code, data.sequence, reply)
        return AndroidParcel(reply, wire)

    def add(self, level: int, name: str | None, stub: bk.RemoteObject | None, priorities: int = 8) -> AndroidParcel:
        wire = LEVELS[level]
        data = request(wire)
        data.write_string16(name)
        data.write_binder(stub)
        data.sequence.write_int(0)
        if level >= 28:
            data.sequence.write_int(priorities)
        return self.ask(self.service, wire, CODES[level]["add"], data)

    def found(self, level: int, what: str, name: str | None) -> Any:
        wire = LEVELS[level]
        data = request(wire)
        data.write_string16(name)
        reply = self.ask(self.client, wire, CODES[level][what], data)
        if level >= 30:
            reply.read_exception()
        found = reply.read_binder().remote
        assert reply.sequence.get_readable_bytes() == 0
        return found

    def listed(self, level: int, priorities: int = 15) -> list[str | None]:
        wire, code = LEVELS[level], CODES[level]["list"]
        if level >= 30:
            data = request(wire)
            data.sequence.write_int(priorities)
            reply = self.ask(self.client, wire, code, data)
            reply.read_exception()
            return [reply.read_string16() for _ in range(reply.sequence.read_int())]
        names: list[str | None] = []
        while True:
            data = request(wire)
            data.sequence.write_int(len(names))
            if level >= 28:
                data.sequence.write_int(priorities)
            try:
                names.append(self.ask(self.client, wire, code, data).read_string16())
            except RemoteError as error:
                assert error.code == NAME_NOT_FOUND
                return names


@pytest.fixture
def device() -> Iterator[Device]:
    with Device() as made:
        yield made


def request(wire: Wire) -> AndroidParcel:
    parcel = AndroidParcel(bk.MessageSequence(), wire)
    parcel.write_interface_token(INTERFACE)
    return parcel


class Echo(bk.RemoteObject):
    def on_remote_message_request(
        self, code: int, data: bk.MessageSequence, reply: bk.MessageSequence, option: bk.MessageOption
    ) -> bool:
        reply.write_string(data.read_string())
        return True


# --- what tools do, in every generation ------------------------------------------------------------


@every_level
def test_a_service_is_added_found_called_and_listed(level: int) -> None:
    with Device(level) as device:
        reply = device.add(level, "tests.echo", Echo("tests.Echo"), priorities=4)
        assert bytes(reply.sequence).hex() == "00000000"
        device.add(level, "another", Echo("tests.Another"), priorities=1)
        for what in ("get", "check"):
            proxy = device.found(level, what, "tests.echo")
            with bk.MessageSequence() as data, bk.MessageSequence() as answer:
                data.write_string("hello")
                proxy.send_request(1, data, answer)
                assert answer.read_string() == "hello"
            assert device.found(level, what, "tests.other") is None
        assert device.listed(level) == ["another", "tests.echo"]
        if level >= 28:
            assert device.listed(level, priorities=4) == ["tests.echo"]
        assert {(caller.pid, caller.uid) for caller in device.registry.callers} == {(501, 1001), (502, 1002)}
        del proxy


@every_level
def test_a_caller_that_pings_and_asks_for_the_interface_first(level: int) -> None:
    with Device(level) as device:
        manager = device.client.context_object(start=False)
        manager.ping()
        assert manager.get_descriptor() == "OHOS.ISystemAbilityManager"


@pytest.mark.parametrize(("level", "layout"), [(level, wire) for level in LEVELS for wire in (AIDL, AIDL2, AIDL3)])
def test_programs_of_another_generation_are_answered_as_far_as_headers_tell(level: int, layout: Wire) -> None:
    same = LEVELS[level].interface_offset == layout.interface_offset
    spoken = level if same else {AIDL: 27, AIDL2: 29, AIDL3: 30}[layout]
    with Device(level) as device:
        device.add(spoken, "tests.echo", Echo("tests.Echo"))
        assert device.found(spoken, "check", "tests.echo") is not None
        assert device.listed(spoken) == ["tests.echo"]


def test_requests_that_are_none_of_androids_go_on_to_the_other_interface(device: Device) -> None:
    with bk.MessageSequence() as data, bk.MessageSequence() as reply:
        data.write_interface_token("OHOS.ISystemAbilityManager")
        device.client.context_object(start=False).send_request(1, data, reply)
        assert reply.read_string() == "OHOS.ISystemAbilityManager"


# --- golden replies --------------------------------------------------------------------------------


GOLDEN_NULLS = {
    27: NULL_RECORD,
    28: NULL_RECORD,
    29: NULL_RECORD,
    30: "00000000" + NULL_RECORD + "00000000",
    31: "00000000" + NULL_RECORD + "01000000",
    36: "00000000" + NULL_RECORD + "00000000",
}


@pytest.mark.parametrize("level", GOLDEN_NULLS)
def test_golden_reply_of_a_service_that_is_not_there(level: int) -> None:
    reply = bk.MessageSequence()
    data = bk.MessageSequence.from_bytes(bytes.fromhex(HEADERS[LEVELS[level]] + "0100000061000000"))
    manager = AndroidServiceManager(FakeRegistry(), level)
    assert manager.handle(CODES[level]["check"], data, reply, Caller(1, 1, 1)) is True
    assert bytes(reply).hex() == GOLDEN_NULLS[level]


def test_golden_list(device: Device) -> None:
    device.add(30, "b", Echo("tests.B"))
    device.add(30, "a", Echo("tests.A"))
    data = request(AIDL3)
    data.sequence.write_int(15)
    reply = device.ask(device.client, AIDL3, 4, data)
    assert bytes(reply.sequence).hex() == "0000000002000000" + "0100000061000000" + "0100000062000000"


def test_more_names_than_an_ordinary_transaction_holds(device: Device) -> None:
    stub = bk.RemoteObject("tests.Stub")
    names = sorted(f"service.{number:0119d}" for number in range(limits.MAX_ABILITIES))
    device.registry.services = dict.fromkeys(names, (stub, 8))
    assert device.listed(30) == names
    assert 8 + sum(4 + 2 * len(name) + 4 for name in names) > limits.MAX_TRANSACTION


# --- stability -------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", SINCE_11)
def test_the_stability_a_service_was_added_with_is_told_and_stays(level: int) -> None:
    wire = LEVELS[level]
    with Device(level) as device:
        stub = Echo("tests.Echo")
        for told, expected in ((Stability.VINTF, Stability.VINTF), (Stability.SYSTEM, Stability.VINTF)):
            data = request(wire)
            data.write_string16("tests.echo")
            data.write_binder(stub, told)
            data.sequence.write_int(0)
            data.sequence.write_int(8)
            device.ask(device.service, wire, CODES[level]["add"], data).read_exception()
            data = request(wire)
            data.write_string16("tests.echo")
            reply = device.ask(device.client, wire, CODES[level]["check"], data)
            reply.read_exception()
            assert reply.read_binder().stability is expected


def test_a_service_that_says_nothing_of_its_stability_is_one_of_the_system(device: Device) -> None:
    device.add(27, "tests.echo", Echo("tests.Echo"))
    data = request(AIDL3)
    data.write_string16("tests.echo")
    reply = device.ask(device.client, AIDL3, 2, data)
    reply.read_exception()
    assert reply.read_binder().stability is Stability.SYSTEM


# --- starting --------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", [27, 30])
def test_getting_a_service_starts_it_and_checking_does_not(level: int) -> None:
    with Device(level) as device:
        assert device.found(level, "check", "lazy") is None
        assert device.found(level, "get", "lazy") is not None
        assert device.found(level, "get", "lazy-not-there") is None
        assert device.found(level, "get", "lazy-broken") is None


# --- refusals --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("refusal", "status", "exception"),
    [
        (RefusedError("uid 1001 may not"), PERMISSION_DENIED, -1),
        (ParamValueError("no such name"), BAD_VALUE, -3),
        (ServiceError("the table is full"), INVALID_OPERATION, -5),
    ],
)
@every_level
def test_a_refusal_is_an_exception_or_a_status(level: int, refusal: IpcError, status: int, exception: int) -> None:
    with Device(level) as device:
        device.registry.refusal = refusal
        if level < 30:
            with pytest.raises(RemoteError, match=str(refusal.args[0])) as caught:
                device.add(level, "tests.echo", Echo("tests.Echo"))
            assert caught.value.code == status
        else:
            with pytest.raises(RemoteError, match=str(refusal.args[0])) as caught:
                device.add(level, "tests.echo", Echo("tests.Echo")).read_exception()
            assert caught.value.code == exception
        assert device.found(level, "check", "tests.echo") is None
        assert device.found(level, "get", "tests.echo") is None
        device.registry.refusal = None
        assert device.listed(level) == []


def test_who_may_not_list_is_told(device: Device) -> None:
    device.registry.refusal = RefusedError("uid 1002 may not list")
    with pytest.raises(RemoteError, match="uid 1002 may not list"):
        device.listed(30)
    with pytest.raises(RemoteError, match="uid 1002 may not list") as caught:
        device.ask(device.client, AIDL, 4, _with_int(request(AIDL), 0))
    assert caught.value.code == PERMISSION_DENIED


@every_level
@pytest.mark.parametrize("name", [None, "", "x" * 128])
def test_what_is_no_name_never_reaches_the_registry(level: int, name: str | None) -> None:
    with Device(level) as device:
        assert device.found(level, "get", name) is None
        assert device.found(level, "check", name) is None
        with pytest.raises(RemoteError, match="the name of a service has 1 … 127 characters"):
            device.add(level, name, Echo("tests.Echo")).read_exception()
        assert device.registry.callers == []


@every_level
def test_a_service_without_an_object_is_refused(level: int) -> None:
    with Device(level) as device:
        with pytest.raises(RemoteError, match="no object was given for the service"):
            device.add(level, "tests.echo", None).read_exception()
        assert device.registry.callers == []


def test_priorities_nobody_knows_mean_the_default(device: Device) -> None:
    device.add(30, "tests.echo", Echo("tests.Echo"), priorities=16)
    assert device.registry.services["tests.echo"][1] == 8
    assert device.listed(30, priorities=16) == []


@pytest.mark.parametrize(("level", "code"), [(27, 5), (30, 5), (35, 2), (36, 2), (36, 4), (36, 7)])
def test_what_is_not_answered_is_an_unknown_transaction(level: int, code: int) -> None:
    with Device(level) as device:
        with pytest.raises(RemoteError, match=f"does not answer transaction {code}") as caught:
            device.ask(device.client, LEVELS[level], code, request(LEVELS[level]))
        assert caught.value.code == UNKNOWN_TRANSACTION


@pytest.mark.parametrize("operation", ["get", "check", "add", "list"])
@every_level
def test_a_request_that_ends_early_cannot_be_read(level: int, operation: str) -> None:
    with Device(level) as device:
        with pytest.raises(RemoteError, match=f"{operation} of {INTERFACE}: cannot read") as caught:
            device.ask(device.client, LEVELS[level], CODES[level][operation], request(LEVELS[level]))
        assert caught.value.code == BAD_VALUE


@pytest.mark.parametrize("index", [-1, 1, 2**31 - 1])
def test_an_index_behind_the_end(device: Device, index: int) -> None:
    device.add(27, "tests.echo", Echo("tests.Echo"))
    with pytest.raises(RemoteError, match="the list ends there") as caught:
        device.ask(device.client, AIDL, 4, _with_int(request(AIDL), index))
    assert caught.value.code == NAME_NOT_FOUND


def test_a_request_for_somebody_else_is_refused() -> None:
    manager = AndroidServiceManager(FakeRegistry())
    with bk.MessageSequence() as data, pytest.raises(StatusReply) as caught:
        data.write_interface_token("OHOS.ISystemAbilityManager")
        assert not manager.is_addressed(data)
        manager.handle(1, data, bk.MessageSequence(), Caller(1, 1, 1))
    assert caught.value.failure.status == PERMISSION_DENIED


def _with_int(parcel: AndroidParcel, value: int) -> AndroidParcel:
    parcel.sequence.write_int(value)
    return parcel


# --- which Android ---------------------------------------------------------------------------------


def test_levels_between_those_with_a_change() -> None:
    names = {level: (variant_for(level).name, variant_for(level).wire.name) for level in (0, 32, 34, 40)}
    assert names == {0: ("aidl", "aidl"), 32: ("aidl3", "aidl4"), 34: ("aidl3", "aidl3"), 40: ("aidl6", "aidl3")}
    with pytest.raises(ParamValueError, match="API level -1"):
        variant_for(-1)


# --- hostile bytes ---------------------------------------------------------------------------------


@given(st.sampled_from(sorted(LEVELS)), st.sampled_from([AIDL, AIDL2, AIDL3]), st.integers(0, 9), bodies, st.booleans())
def test_any_bytes_are_answered_or_refused(level: int, layout: Wire, code: int, body: bytes, whole: bool) -> None:
    registry = FakeRegistry()
    registry.services["a"] = (bk.RemoteObject("tests.A"), 8)
    manager = AndroidServiceManager(registry, level)
    head = bytes.fromhex(HEADERS[layout])
    data = bk.MessageSequence._received(head + body if whole else body, None)
    reply = bk.MessageSequence()
    try:
        result = manager.handle(code, data, reply, Caller(os.getpid(), os.getuid(), os.getgid()))
    except StatusReply as status:
        assert status.failure.status in (PERMISSION_DENIED, BAD_VALUE, UNKNOWN_TRANSACTION, NAME_NOT_FOUND)
        assert len(reply) == 0
        return
    assert result is True
    assert whole, "nothing else starts with a header"
    assert len(reply) >= 4
    assert list(registry.services) == ["a"], "nothing is registered without an object"


def test_not_found_is_a_no_as_well(device: Device) -> None:
    device.registry.refusal = ServiceNotFoundError("no such service")
    assert device.found(30, "get", "tests.echo") is None
