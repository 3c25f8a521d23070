"""The common event service: a small publish and subscribe, and what starts abilities on common events (reference 2.6).

Owns: sticky events and the rules of publishing. Locks: ``_lock`` guards the sticky events; nothing is called while it
is held.

Rules upheld: the publisher is who the kernel says; names of the system ("usual.event.…") are published by the device's
own user only; everything a process can make the service keep has a quota; publishing never waits for subscribers.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from binderkit.errors import QuotaError, RefusedError
from binderkit.ipc.context import Caller, calling_identity
from binderkit.samgr.conditions import OnDemandEvent
from binderkit.samgr.events.audience import Audience
from binderkit.samgr.events.contracts import (
    CommonEvent,
    EventFilter,
    ICommonEvents,
    ICommonEventSubscriber,
    check_event_name,
)
from binderkit.samgr.events.delivery import Task
from binderkit.samgr.reason import ReasonId

Post = Callable[[OnDemandEvent], object]
SYSTEM_PREFIX: Final = "usual.event."
"""Names that only the device's own user publishes (OpenHarmony's system events)."""
MAX_STICKY_PER_USER: Final = 64


class CommonEventService(ICommonEvents):
    """The service behind system ability 3299.

    Args:
        submit: how subscribers are told on another thread; default: the driver's workers.
    """

    def __init__(self, *, submit: Callable[[Task], object] | None = None) -> None:
        self._audience: Audience[EventFilter] = Audience(submit)
        self._post: Post | None = None
        self._lock = threading.Lock()
        self._sticky: dict[str, CommonEvent] = {}

    def start(self, post: Post) -> None:
        """Hand every event to ``post`` from now on."""
        self._post = post

    def close(self) -> None:
        """Drop all subscribers; post nothing more."""
        self._post = None
        self._audience.close()

    def publish(self, event: CommonEvent) -> None:
        """Tell an event; see ICommonEvents.

        Raises:
            RefusedError: the name is the system's, or another user's sticky event has it (303).
            QuotaError: the user has 64 sticky events (29201).
        """
        caller = calling_identity()
        if event.name.startswith(SYSTEM_PREFIX) and not is_trusted(caller):
            raise RefusedError(
                f"uid {caller.uid} may not publish {event.name!r}: names that begin with {SYSTEM_PREFIX!r} are "
                "the system's"
            )
        event = replace(event, publisher_pid=caller.pid, publisher_uid=caller.uid)
        if event.sticky:
            self._keep(caller, event)
        self._audience.tell(lambda wish: wish.wants(event), lambda target: target.on_event(event))
        post = self._post
        if post is not None:
            post(OnDemandEvent(ReasonId.COMMON_EVENT, event.name, str(event.code), dict(event.parameters), event.data))

    def _keep(self, caller: Caller, event: CommonEvent) -> None:
        with self._lock:
            known = self._sticky.get(event.name)
            if known is not None and known.publisher_uid != caller.uid and not is_trusted(caller):
                raise RefusedError(
                    f"the sticky event {event.name!r} belongs to uid {known.publisher_uid}; use another name"
                )
            own = sum(one.publisher_uid == caller.uid for one in self._sticky.values())
            if known is None and own >= MAX_STICKY_PER_USER:
                raise QuotaError(
                    f"uid {caller.uid} has {own} sticky events, the most there may be; remove some (remove_sticky)"
                )
            self._sticky[event.name] = event

    def subscribe(self, filter: EventFilter, subscriber: ICommonEventSubscriber) -> None:
        """Add or change a subscriber; see ICommonEvents.

        Raises:
            QuotaError: the process has 256 subscribers (29201).
        """
        self._audience.add(calling_identity(), subscriber, filter)
        with self._lock:
            missed = [event for event in self._sticky.values() if filter.wants(event)]
        for event in missed:
            self._audience.tell_one(subscriber, _telling(event))

    def unsubscribe(self, subscriber: ICommonEventSubscriber) -> bool:
        """Drop a subscriber; see ICommonEvents."""
        return self._audience.remove(subscriber)

    def sticky(self, name: str) -> CommonEvent | None:
        """Return a sticky event; see ICommonEvents."""
        check_event_name(name)
        return self._sticky.get(name)

    def remove_sticky(self, name: str) -> bool:
        """Forget a sticky event of the caller's user; see ICommonEvents."""
        caller = calling_identity()
        with self._lock:
            known = self._sticky.get(name)
            if known is None or (known.publisher_uid != caller.uid and not is_trusted(caller)):
                return False
            del self._sticky[name]
            return True

    def on_dump(self, descriptor: int, arguments: list[str]) -> None:
        """Write how many subscribers and which sticky events there are."""
        names = "".join(f"  {name}\n" for name in sorted(self._sticky))
        os.write(
            descriptor, f"subscribers: {len(self._audience)}\nsticky events: {len(self._sticky)}\n{names}".encode()
        )


def _telling(event: CommonEvent) -> Callable[[Any], object]:
    return lambda target: target.on_event(event)


def is_trusted(caller: Caller) -> bool:
    """Whether the caller is the device's own user or root."""
    return caller.uid in (0, os.geteuid())
