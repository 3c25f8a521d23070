"""Who is there, from the tokens that devices hold up. Pure.

Owns: ``PresenceTable``: tokens in, events out.

Why a table of its own: a device opens its session anew when its trust changes,
and renames itself by holding up another token; neither is "offline". So a device
is there while it holds up any token, and gone ``debounce`` seconds after the
last one went, or ``grace`` seconds when it said that it would be back. A token
of another boot is another life: the earlier one ends at once.

Rules upheld: a device announces only itself (the engine's access-control list
sees to that); what one device can make us keep is bounded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from binderkit import limits
from binderkit.softbus.engine import DeviceInfo, Presence, PresenceEvent

__all__ = ["PresenceTable"]

_MAX_TOKENS: Final = 8
"""Tokens of one device: one, two while it renames itself or opens its session anew; the rest is room."""


@dataclass(slots=True)
class _Node:
    tokens: dict[str, DeviceInfo] = field(default_factory=dict)
    reported: DeviceInfo | None = None
    gone_at: float | None = None
    back_soon: bool = False


class PresenceTable:
    """The devices that are there.

    Args:
        debounce: seconds without a token before a device is offline.
        grace: the same for a device that said that it would be back.

    Attributes:
        devices: who is there, by UDID; never changed, but replaced, so it can be read from any thread.
    """

    def __init__(self, debounce: float = limits.RPC_DEBOUNCE, grace: float = limits.RPC_REOPEN_GRACE) -> None:
        self._debounce = debounce
        self._grace = grace
        self._nodes: dict[str, _Node] = {}
        # Replaced, never changed: it is read for every call, without a lock.
        self.devices: Mapping[str, DeviceInfo] = MappingProxyType({})

    def put(self, key: str, info: DeviceInfo) -> list[Presence]:
        """A device holds up a token; the latest one counts. Returns what changed."""
        node = self._nodes.setdefault(info.udid, _Node())
        if key not in node.tokens and len(node.tokens) >= _MAX_TOKENS:
            del node.tokens[next(iter(node.tokens))]
        node.tokens.pop(key, None)
        if node.reported is not None and node.reported.boot != info.boot:
            # Tokens of an earlier life last until its lease is over; they must not bring it back.
            node.tokens.clear()
        node.tokens[key] = info
        node.gone_at = None
        node.back_soon = False
        return self._report(node, info)

    def back_soon(self, udid: str) -> None:
        """A device is about to take its token down and hold up another."""
        node = self._nodes.get(udid)
        if node is not None:
            node.back_soon = True

    def delete(self, key: str, udid: str, now: float) -> list[Presence]:
        """A token is no longer held up. Returns what changed."""
        node = self._nodes.get(udid)
        if node is None or node.tokens.pop(key, None) is None:
            return []
        if node.tokens:
            return self._report(node, next(reversed(node.tokens.values())))
        node.gone_at = now + (self._grace if node.back_soon else self._debounce)
        return []

    def lose_all(self, now: float) -> None:
        """Our own session is opened anew: we see nobody until then, and everybody has the time to appear again."""
        for node in self._nodes.values():
            if node.tokens:
                node.tokens.clear()
                node.gone_at = now + self._grace

    def restrict(self, trusted: frozenset[str]) -> list[Presence]:
        """Forget devices that are no longer trusted. Returns what changed."""
        events: list[Presence] = []
        for udid in [udid for udid in self._nodes if udid not in trusted]:
            node = self._nodes.pop(udid)
            if node.reported is not None:
                events.append(Presence(PresenceEvent.OFFLINE, node.reported))
        self._changed()
        return events

    def due(self, now: float) -> list[Presence]:
        """Return the devices whose time is over."""
        events: list[Presence] = []
        for udid, node in list(self._nodes.items()):
            if node.gone_at is not None and node.gone_at <= now:
                del self._nodes[udid]
                if node.reported is not None:
                    events.append(Presence(PresenceEvent.OFFLINE, node.reported))
        if events:
            self._changed()
        return events

    def next_deadline(self) -> float | None:
        """Return when ``due`` has something to say, None when nothing is pending."""
        return min((node.gone_at for node in self._nodes.values() if node.gone_at is not None), default=None)

    def _changed(self) -> None:
        nodes = self._nodes.items()
        self.devices = MappingProxyType({udid: node.reported for udid, node in nodes if node.reported is not None})

    def _report(self, node: _Node, info: DeviceInfo) -> list[Presence]:
        before, node.reported = node.reported, info
        if before != info:
            self._changed()
        if before is None:
            return [Presence(PresenceEvent.ONLINE, info)]
        if before.boot != info.boot:
            return [Presence(PresenceEvent.OFFLINE, before), Presence(PresenceEvent.ONLINE, info)]
        return [] if before == info else [Presence(PresenceEvent.CHANGED, info)]
