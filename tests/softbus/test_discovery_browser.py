"""binderkit.softbus.discovery_browser: hearing, asking and ending, with the packets in the test's hands."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator

import pytest
from zeroconf import ServiceInfo, Zeroconf
from zeroconf._dns import DNSPointer
from zeroconf._protocol.outgoing import DNSOutgoing
from zeroconf.const import _CLASS_IN, _FLAGS_AA, _FLAGS_QR_RESPONSE, _TYPE_PTR

from binderkit.softbus.discovery_browser import Browser

LOOPBACK = ["127.0.0.1"]
WAIT = 10


@pytest.fixture
def kind() -> str:
    return f"_sb{time.monotonic_ns() % 10**9}._udp.local."


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the pauses between the three times that mDNS says everything."""
    for name in ("_REGISTER_TIME", "_UNREGISTER_TIME"):
        monkeypatch.setattr(f"zeroconf._core.{name}", 10, raising=False)


@pytest.fixture
def network() -> Iterator[tuple[Zeroconf, Zeroconf]]:
    pair = Zeroconf(interfaces=LOOPBACK), Zeroconf(interfaces=LOOPBACK)
    yield pair
    for one in pair:
        one.close()


def announce_only_the_name(zeroconf: Zeroconf, kind: str, name: str) -> None:
    """Send the PTR record of a service and nothing else."""
    out = DNSOutgoing(_FLAGS_QR_RESPONSE | _FLAGS_AA)
    out.add_answer_at_time(DNSPointer(kind, _TYPE_PTR, _CLASS_IN, 4500, name), 0)
    zeroconf.send(out)


def test_who_left_something_out_is_asked(network: tuple[Zeroconf, Zeroconf], kind: str) -> None:
    hears, says = network
    seen: queue.Queue[str] = queue.Queue()
    browser = Browser(hears, kind, lambda _, name, info: seen.put(f"{name} {info.port}"), lambda *_: None)
    browser.start()
    name = f"shy.{kind}"
    announce_only_the_name(says, kind, name)
    service = ServiceInfo(kind, name, 5, properties={"v": "1"}, parsed_addresses=LOOPBACK, server="shy.local.")
    says.registry.async_add(service)  # answers questions, announces nothing
    try:
        assert seen.get(timeout=WAIT) == f"{name} 5"
    finally:
        browser.end()


def test_names_nobody_answers_for_do_not_delay_the_others_or_the_end(
    network: tuple[Zeroconf, Zeroconf], kind: str
) -> None:
    hears, says = network
    seen: queue.Queue[str] = queue.Queue()
    browser = Browser(hears, kind, lambda _, name, info: seen.put(name), lambda *_: None)
    browser.start()
    for number in range(100):
        announce_only_the_name(says, kind, f"ghost{number}.{kind}")
    honest = ServiceInfo(kind, f"honest.{kind}", 5, properties={"v": "1"}, parsed_addresses=LOOPBACK, server="h.local.")
    start = time.monotonic()
    says.register_service(honest, cooperating_responders=True)
    assert seen.get(timeout=WAIT) == f"honest.{kind}"
    browser.end()
    assert time.monotonic() - start < 5  # 100 ghosts would take 50 s
    assert seen.empty()


def test_a_callback_knows_that_it_is_on_the_browsers_thread(network: tuple[Zeroconf, Zeroconf], kind: str) -> None:
    hears, says = network
    seen: queue.Queue[bool] = queue.Queue()
    browser = Browser(hears, kind, lambda browser, *_: seen.put(browser.on_own_thread()), lambda *_: None)
    browser.start()
    service = ServiceInfo(kind, f"x.{kind}", 5, properties={"v": "1"}, parsed_addresses=LOOPBACK, server="x.local.")
    says.register_service(service, cooperating_responders=True)
    assert seen.get(timeout=WAIT) is True
    assert browser.on_own_thread() is False
    before = threading.active_count()
    browser.end()
    assert threading.active_count() == before - 2
