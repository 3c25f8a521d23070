from __future__ import annotations

import pytest

from binderkit.interface.idl import IdlError, parse_string


def check(attributes: str, *, of_interface: bool = False) -> None:
    if of_interface:
        parse_string(f"[{attributes}] interface IFoo {{ void f(); }}")
    else:
        parse_string(f"interface IFoo {{ [{attributes}] void f(); }}")


@pytest.mark.parametrize(
    "attributes",
    [
        "oneway",
        "cacheable 0",
        "cacheable 1000",
        "ipccode 1",
        "ipccode 0x7F",
        "ipccode 15728623",
        "ipcincapacity 1",
        "ipcoutcapacity 131071",
        "customMsgOption flags=MessageOption::TF_ASYNC",
        "customMsgOption flags=1 and waitTime=2",
        "customMsgOption waitTime=2 and flags=1",
        "macrodef DEVICE",
        "macrondef DEVICE",
        "freezecontrol",
        "freezecontrol name",
        "oneway, ipccode 3, ipcincapacity 10, macrodef A, macrondef B",
    ],
)
def test_what_a_method_can_be(attributes: str) -> None:
    check(attributes)


@pytest.mark.parametrize("attributes", ["", "oneway", "callback", "full", "lite", "mini", "oneway, callback, full"])
def test_what_an_interface_can_be(attributes: str) -> None:
    check(attributes, of_interface=True)


@pytest.mark.parametrize(
    ("attributes", "offset", "reason"),
    [
        ("lite", 0, "method f cannot be 'lite'; possible are oneway, cacheable"),
        ("callback", 0, "method f cannot be 'callback'"),
        ("oneway, oneway", 8, "method f is 'oneway' already"),
        ("ipccode 3, ipccode 4", 11, "method f is 'ipccode' already"),
        ("oneway yes", 0, "oneway takes no value, got 'yes'"),
        ("cacheable", 0, "cacheable takes a decimal number 0 … 2147483647 (milliseconds a reply is kept, 0 for ever)"),
        ("cacheable long_time", 0, "got long_time"),
        ("cacheable 0x10", 0, "got 0x10"),
        ("ipccode", 0, "ipccode takes a decimal or 0x number 1 … 0xFFFFFF, got nothing"),
        ("ipccode 0b11", 0, "ipccode takes a decimal or 0x number"),
        ("ipccode 12l", 0, "ipccode takes a decimal or 0x number"),
        ("ipccode 0x1000000", 0, "got 0x1000000"),
        ("ipccode CODE", 0, "got CODE"),
        ("ipcincapacity 0", 0, "ipcincapacity takes a decimal number 1 … 131071 (KB the parcel may take), got 0"),
        ("ipcoutcapacity 131072", 0, "got 131072"),
        ("ipcoutcapacity 0x10", 0, "got 0x10"),
        ("macrodef", 0, "macrodef takes the name of a macro, e.g. [macrodef DEVICE]"),
        ("macrondef 7", 0, "macrondef takes the name of a macro"),
        ("customMsgOption waitTime=3", 0, "customMsgOption takes flags=… or flags=… and waitTime=…"),
        ("customMsgOption flags=3 and flags=4", 0, "customMsgOption takes"),
        ("customMsgOption other=3 and flags=4", 0, "customMsgOption takes"),
    ],
)
def test_what_a_method_cannot_be(attributes: str, offset: int, reason: str) -> None:
    with pytest.raises(IdlError) as raised:
        check(attributes)

    assert reason in raised.value.reason
    assert raised.value.column == len("interface IFoo { [") + 1 + offset


@pytest.mark.parametrize(
    ("attributes", "offset", "reason"),
    [
        ("cacheable 5", 0, "interface IFoo cannot be 'cacheable'; possible are oneway, callback, full, lite, mini"),
        ("oneway, oneway", 8, "interface IFoo is 'oneway' already"),
        ("callback 1", 0, "callback takes no value, got '1'"),
    ],
)
def test_what_an_interface_cannot_be(attributes: str, offset: int, reason: str) -> None:
    with pytest.raises(IdlError) as raised:
        check(attributes, of_interface=True)

    assert reason in raised.value.reason
    assert raised.value.column == 2 + offset
