"""samgr/events/client.py: the functions programs use, with services in another process."""

from __future__ import annotations

import queue
import subprocess
from collections.abc import Iterator

import pytest

import binderkit as bk
from binderkit import samgr
from binderkit.errors import ParamValueError, RemoteError, ServiceNotFoundError
from binderkit.samgr import reconnect
from binderkit.samgr.events import (
    CommonEvent,
    Subscription,
    get_parameter,
    publish_common_event,
    set_parameter,
    subscribe_common_event,
    watch_parameter,
)
from binderkit.samgr.events.client import common_events, parameters
from binderkit.samgr.events.contracts import COMMON_EVENT_ID
from tests.samgr.conftest import device as device
from tests.samgr.conftest import running_samgr as running_samgr
from tests.samgr.events.processes import daemon_process

WAIT = 10.0


@pytest.fixture
def services(running_samgr: subprocess.Popen[bytes]) -> Iterator[bk.Child]:
    with bk.spawn("tests.samgr.events.processes:serve") as child:
        yield child


def test_events_between_processes(services: bk.Child) -> None:
    heard = queue.Queue[CommonEvent]()
    publish_common_event("com.example.sticky", code=1, sticky=True)
    with subscribe_common_event(["com.example.a", "com.example.sticky"], heard.put) as subscription:
        assert heard.get(timeout=WAIT).code == 1
        publish_common_event("com.example.a", code=7, data="data", parameters={"k": "v"})
        event = heard.get(timeout=WAIT)
        assert (event.name, event.code, event.data, event.parameters) == ("com.example.a", 7, "data", {"k": "v"})
        assert ("event subscription", subscription) in reconnect.remembered()
    subscription.close()
    assert reconnect.remembered() == []
    publish_common_event("com.example.a")
    assert not common_events().remove_sticky("com.example.a")  # a round trip: what was sent before has been handled
    assert heard.empty()


def test_parameters_between_processes(services: bk.Child) -> None:
    heard = queue.Queue[tuple[str, str]]()
    with watch_parameter("photos.*", lambda name, value: heard.put((name, value))):
        set_parameter("photos.enabled", "true")
        assert heard.get(timeout=WAIT) == ("photos.enabled", "true")
    assert (get_parameter("photos.enabled"), get_parameter("photos.none", "no")) == ("true", "no")
    assert parameters().list("photos.") == {"photos.enabled": "true"}


def test_what_cannot_be_is_refused_here_or_there(services: bk.Child) -> None:
    with pytest.raises(ParamValueError, match="1 to 128"):
        publish_common_event("")
    with pytest.raises(RemoteError, match="96 characters"):
        set_parameter("a", "v" * 97)
    with pytest.raises(RemoteError, match="no parameter's name"):
        watch_parameter("a b", lambda name, value: None)
    assert reconnect.remembered() == []


def test_the_service_dies(services: bk.Child) -> None:
    subscription = subscribe_common_event("a", lambda event: None)
    services.kill()
    subscription.close()


def test_a_subscription_that_ends_while_it_is_made_again_is_left(services: bk.Child) -> None:
    left = []
    subscription = Subscription(lambda client: lambda: left.append("left"))
    subscription.close()
    subscription._subscribe(samgr.system_ability_manager())  # the reconnecting thread comes too late
    subscription.close()
    assert left == ["left", "left"]


@pytest.mark.usefixtures("device")
def test_a_subscription_goes_on_after_the_daemon_was_killed_and_parameters_are_there_again() -> None:
    heard = queue.Queue[CommonEvent]()
    with daemon_process() as first:
        subscription = subscribe_common_event("com.example.again", heard.put)
        publish_common_event("com.example.again", code=1)
        assert heard.get(timeout=WAIT).code == 1
        set_parameter("photos.enabled", "true")
        first.kill()
        first.wait(WAIT)
    with daemon_process():
        # Sticky: heard whether it comes before the subscription was made again or after.
        publish_common_event("com.example.again", code=2, sticky=True)
        assert heard.get(timeout=WAIT).code == 2
        assert get_parameter("photos.enabled") == "true"
        subscription.close()


@pytest.mark.usefixtures("running_samgr")
def test_without_the_service() -> None:
    samgr.remove_system_ability(COMMON_EVENT_ID)
    with pytest.raises(ServiceNotFoundError):
        publish_common_event("a")
