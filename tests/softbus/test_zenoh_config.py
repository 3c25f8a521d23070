"""The configuration: every setting that a pitfall asks for, and the list of who may say what."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
import zenoh
from hypothesis import given
from hypothesis import strategies as st

from binderkit import limits
from binderkit.errors import ParamValueError
from binderkit.softbus.engine import DeviceInfo, Kind, TrustSnapshot
from binderkit.softbus.zenoh_config import (
    ZenohSettings,
    back_token,
    check_name,
    node_token,
    parse_back_token,
    parse_node_token,
    parse_request_key,
    request_key,
    requests_of,
    session_id,
    zenoh_config,
)

A, B, C = "a" * 64, "b" * 64, "c" * 64
TRUST = TrustSnapshot(A, frozenset((A, B, C)), b"ca", b"certificate", Path("/keys/device.key"))
udids = st.text("0123456789abcdef", min_size=64, max_size=64)


def config(settings: ZenohSettings | None = None) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(zenoh_config(TRUST, settings or ZenohSettings(), "abc"))
    return loaded


def test_the_engine_accepts_it_and_knows_every_word() -> None:
    text = zenoh_config(TRUST, ZenohSettings(), session_id(A, "0" * 16, 1))
    assert zenoh.Config.from_json5(text).get_json("mode") == '"peer"'


def test_each_pitfall_has_its_setting() -> None:
    got = config(ZenohSettings(lease=2.0))
    transport, tls = got["transport"], got["transport"]["link"]["tls"]
    assert got["mode"] == "peer"
    assert transport["shared_memory"]["enabled"] is False
    assert transport["shared_memory"]["transport_optimization"]["enabled"] is False
    assert transport["link"]["protocols"] == ["tls"]
    assert tls["enable_mtls"] is True and tls["verify_name_on_connect"] is False
    assert tls["close_link_on_expiration"] is True
    assert transport["link"]["tx"]["lease"] == 2000
    # Never -1, which panics; above the lease, and not so long that a dead link holds its senders up.
    wait = transport["link"]["tx"]["queue"]["congestion_control"]["block"]["wait_before_close"]
    assert 2_000_000 < wait <= 10_000_000
    assert transport["link"]["rx"]["max_message_size"] <= 4 * limits.MIB
    assert transport["unicast"]["lowlatency"] is False
    assert transport["unicast"]["open_timeout"] <= 2000
    assert got["adminspace"]["enabled"] is False and got["plugins_loading"]["enabled"] is False
    assert got["queries_default_timeout"] == 8000
    assert got["scouting"]["delay"] == 0 and got["scouting"]["gossip"]["enabled"] is True
    assert got["connect"]["exit_on_failure"] is False
    assert limits.RPC_LEASE + limits.RPC_DEBOUNCE < 5  # a silent device is known within 5 s


def test_one_authority_and_the_key_stays_in_its_file() -> None:
    tls = config()["transport"]["link"]["tls"]
    assert base64.b64decode(tls["root_ca_certificate_base64"]) == b"ca"
    assert tls["listen_private_key"] == tls["connect_private_key"] == "/keys/device.key"
    assert base64.b64decode(tls["connect_certificate_base64"]) == b"certificate"


def allowed(got: dict[str, Any], name: str, flow: str, message: str, key: str) -> bool:
    """What the list says: an expression must be included in that of a rule."""
    control = got["access_control"]
    assert control["enabled"] is True and control["default_permission"] == "deny"
    rules = {rule["id"]: rule for rule in control["rules"]}
    subjects = {subject["id"]: subject for subject in control["subjects"]}
    for policy in control["policies"]:
        if not any(name in subjects[subject]["cert_common_names"] for subject in policy["subjects"]):
            continue
        for rule in (rules[identity] for identity in policy["rules"]):
            if (
                flow in rule["flows"]
                and message in rule["messages"]
                and any(zenoh.KeyExpr(allowed).includes(key) for allowed in rule["key_exprs"])
            ):
                return True
    return False


def test_a_device_may_say_only_what_concerns_itself() -> None:
    got = config()
    assert allowed(got, B, "ingress", "query", request_key(A, B, Kind.CALL, 1))
    for key in (request_key(A, C, Kind.CALL, 1), request_key(B, A, Kind.CALL, 1), f"sb/rpc/{A}/*/call/1", "sb/**"):
        assert not allowed(got, B, "ingress", "query", key)
    assert allowed(got, B, "ingress", "declare_queryable", requests_of(B))
    for message in ("declare_queryable", "reply"):
        for key in (requests_of(A), requests_of(C), "sb/**", "**"):
            assert not allowed(got, B, "ingress", message, key)
    info = DeviceInfo(B, "ab", "0" * 16, "tv", "linux")
    assert allowed(got, B, "ingress", "liveliness_token", node_token(info, 1))
    assert not allowed(got, C, "ingress", "liveliness_token", node_token(info, 1))
    for message in ("put", "delete", "declare_subscriber"):
        assert not allowed(got, B, "ingress", message, "sb/live/x") and not allowed(got, B, "egress", message, "sb/x")


def test_a_device_that_is_not_trusted_may_say_and_see_nothing() -> None:
    got, stranger = config(), "d" * 64
    for flow in ("ingress", "egress"):
        for message in ("query", "reply", "declare_queryable", "liveliness_token", "declare_liveliness_subscriber"):
            assert not allowed(got, stranger, flow, message, f"sb/rpc/{A}/{stranger}/call/1")
            assert not allowed(got, stranger, flow, message, f"sb/live/{stranger}/back")
    everyone = [subject["cert_common_names"] for subject in got["access_control"]["subjects"]]
    assert sorted(everyone) == [[B], [C]]  # not ourselves: nobody else has our name


@pytest.mark.parametrize("udid", ["", "*", "**", "A" * 64, "a" * 63, "a" * 63 + "/", "a" * 64 + "\n"])
def test_a_udid_that_is_none_becomes_no_rule(udid: str) -> None:
    trust = TrustSnapshot(A, frozenset((udid,)), b"", b"", Path())
    with pytest.raises(ParamValueError, match="64 hexadecimal"):
        zenoh_config(trust, ZenohSettings(), "abc")


@given(udids, udids, st.sampled_from(Kind), st.integers(0, 2**64 - 1))
def test_request_keys(receiver: str, sender: str, kind: Kind, target: int) -> None:
    key = request_key(receiver, sender, kind, target)
    assert parse_request_key(key) == (receiver, sender, kind, target)
    assert zenoh.KeyExpr(requests_of(receiver)).includes(key)


@given(st.text(max_size=200))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    assert parse_request_key(text) is None
    assert parse_node_token(text) is None
    assert parse_back_token(text) is None


@pytest.mark.parametrize(
    "key",
    [
        f"sb/rpc/{A}/*/call/1",
        f"sb/rpc/{A}/**",
        f"sb/rpc/{A}/{B}/call/*",
        f"sb/rpc/{A}/{B}/call/1/2",
        f"sb/rpc/{A}/{B}/call/{'f' * 17}",
        f"sb/rpc/{A}/{B}/nothing/1",
        f"sb/rpc/{A}/{B.upper()}/call/1",
        f"sb/rpc/{A}/{B}/call/1\n",
    ],
)
def test_keys_that_are_refused(key: str) -> None:
    assert parse_request_key(key) is None


printable = st.text(min_size=1, max_size=64).filter(str.isprintable)


@given(udids, printable, st.sampled_from(("linux", "tv")), st.integers(1, 1000))
def test_tokens(udid: str, name: str, kind: str, session: int) -> None:
    info = DeviceInfo(udid, "0123", "f" * 16, name, kind)
    key = node_token(info, session)
    assert parse_node_token(key) == info
    assert str(zenoh.KeyExpr(key)) == key
    assert zenoh.KeyExpr(f"sb/live/{udid}/**").includes(key)
    assert parse_back_token(back_token(udid)) == udid and parse_node_token(back_token(udid)) is None


@pytest.mark.parametrize("name", ["ff", "0a", "61" * 65])
def test_tokens_with_names_that_cannot_be(name: str) -> None:
    assert parse_node_token(f"sb/live/{A}/node/ab/{'0' * 16}/1/61/{name}") is None


@pytest.mark.parametrize("name", ["", "x" * 65, "a\nb", "\x1b[31m"])
def test_names_that_cannot_be(name: str) -> None:
    with pytest.raises(ParamValueError):
        check_name(name)


@given(udids, st.integers(1, 10))
def test_session_ids_are_what_the_engine_takes(udid: str, generation: int) -> None:
    identity = session_id(udid, "0" * 16, generation)
    assert 0 < len(identity) <= 32 and not identity.startswith("0")
    assert identity != session_id(udid, "0" * 16, generation + 1)
