"""What programs and the device's event services say to each other: common events and system parameters.

Owns: the two contracts, their data, and the ids and names they are registered under.

Rules upheld: whatever arrives has been checked by the constructors here, with the limits that the errors name.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from binderkit.errors import ParamValueError, TooBigError
from binderkit.interface import Int32, Interface, idempotent, method, oneway
from binderkit.limits import KIB
from binderkit.samgr.conditions import is_parameter_name

COMMON_EVENT_ID: Final = 3299
"""OpenHarmony's id of its common event service."""
COMMON_EVENT_NAME: Final = "binderkit.events"
PARAMETERS_ID: Final = 0x10001
PARAMETERS_NAME: Final = "binderkit.parameters"

MAX_EVENT_NAME: Final = 128
"""Characters (a rule's text has as many, reference 2.6)."""
MAX_EVENT_PARAMETERS: Final = 64
MAX_EVENT_DATA: Final = 16 * KIB
"""Characters of data and parameters together (own choices)."""
MAX_FILTER_NAMES: Final = 64
MAX_PARAMETER_VALUE: Final = 96
"""Characters of a system parameter's value (OpenHarmony's parameters)."""


@dataclass(frozen=True)
class CommonEvent:
    """Something a program tells everybody who wants to hear it.

    Attributes:
        name: e.g. "com.example.photos.IMPORTED"; 1 to 128 characters.
        code, data, parameters: what it says; data and parameters together up to 16 Ki characters.
        sticky: who subscribes later hears it too.
        publisher_pid, publisher_uid: who published it; set by the service, never by the publisher.
    """

    name: str
    code: Int32 = 0
    data: str = ""
    parameters: dict[str, str] = field(default_factory=dict)
    sticky: bool = False
    publisher_pid: int = 0
    publisher_uid: int = 0

    def __post_init__(self) -> None:
        check_event_name(self.name)
        if len(self.parameters) > MAX_EVENT_PARAMETERS:
            raise ParamValueError(
                f"the common event {self.name!r} has {len(self.parameters)} parameters, allowed are "
                f"{MAX_EVENT_PARAMETERS}"
            )
        size = len(self.data) + sum(len(key) + len(value) for key, value in self.parameters.items())
        if size > MAX_EVENT_DATA:
            raise TooBigError(
                f"the common event {self.name!r} carries {size} characters, allowed are {MAX_EVENT_DATA}; "
                "publish where the data is, instead of the data"
            )


def check_event_name(name: str) -> None:
    """Raise ParamValueError (401) unless ``name`` can name a common event."""
    if not 0 < len(name) <= MAX_EVENT_NAME or not name.isprintable():
        raise ParamValueError(
            f"a common event's name has 1 to {MAX_EVENT_NAME} characters that can be printed, got {name[:40]!r}"
        )


@dataclass(frozen=True)
class EventFilter:
    """Which common events somebody wants.

    Attributes:
        names: 1 to 64 names. publisher_uid: only those published by this user, None for any.
    """

    names: tuple[str, ...]
    publisher_uid: int | None = None

    def __post_init__(self) -> None:
        if not 0 < len(self.names) <= MAX_FILTER_NAMES:
            raise ParamValueError(f"a filter has 1 to {MAX_FILTER_NAMES} names, got {len(self.names)}")
        for name in self.names:
            check_event_name(name)

    def wants(self, event: CommonEvent) -> bool:
        """Whether ``event`` is one of them."""
        return event.name in self.names and self.publisher_uid in (None, event.publisher_uid)


class ICommonEventSubscriber(Interface, descriptor="binderkit.ICommonEventSubscriber"):
    """What a subscriber offers to the service."""

    @method
    @oneway
    def on_event(self, event: CommonEvent) -> None:
        """Take an event, in the order published."""


class ICommonEvents(Interface, descriptor="binderkit.ICommonEvents"):
    """Common events: published by one, heard by whoever subscribed."""

    @method
    def publish(self, event: CommonEvent) -> None:
        """Tell an event; returns before the subscribers have heard it."""

    @method
    @idempotent
    def subscribe(self, filter: EventFilter, subscriber: ICommonEventSubscriber) -> None:
        """Tell ``subscriber`` from now on, first of sticky events; again: with another filter."""

    @method
    @idempotent
    def unsubscribe(self, subscriber: ICommonEventSubscriber) -> bool:
        """Tell it nothing more; returns whether it was subscribed."""

    @method
    @idempotent
    def sticky(self, name: str) -> CommonEvent | None:
        """Return the last sticky event of this name."""

    @method
    @idempotent
    def remove_sticky(self, name: str) -> bool:
        """Forget a sticky event of the caller's user; returns whether there was one."""


def check_parameter(name: str, value: str = "") -> None:
    """Raise ParamValueError (401) unless a system parameter can have this name and value."""
    if not is_parameter_name(name):
        raise ParamValueError(
            f"{name[:40]!r} is no parameter's name: up to 128 letters, digits, _ @ : - in words joined by dots, "
            "e.g. 'persist.photos.enabled'"
        )
    if len(value) > MAX_PARAMETER_VALUE or not value.isprintable():
        raise ParamValueError(
            f"the value of {name} has at most {MAX_PARAMETER_VALUE} characters, all printable; "
            f"got {len(value)}: {value[:40]!r}"
        )


class IParameterWatcher(Interface, descriptor="binderkit.IParameterWatcher"):
    """What somebody who watches parameters offers to the service."""

    @method
    @oneway
    def on_changed(self, name: str, value: str) -> None:
        """Take the new value of a parameter."""


class IParameters(Interface, descriptor="binderkit.IParameters"):
    """System parameters: names with texts, for settings that start and stop abilities."""

    @method
    @idempotent
    def get(self, name: str, default: str = "") -> str:
        """Return a parameter's value, ``default`` when it was never set."""

    @method
    @idempotent
    def set(self, name: str, value: str) -> None:
        """Set a parameter; one that begins with "const." can be set once only."""

    @method
    @idempotent
    def list(self, prefix: str = "") -> dict[str, str]:
        """Return all parameters whose names begin with ``prefix``."""

    @method
    @idempotent
    def watch(self, pattern: str, watcher: IParameterWatcher) -> None:
        """Tell ``watcher`` of every change of a parameter, or of all that begin so with "prefix*"."""

    @method
    @idempotent
    def unwatch(self, watcher: IParameterWatcher) -> bool:
        """Tell it nothing more; returns whether it watched."""
