"""Makes a message that fails as short as a simple search gets it.

Owns: the search. It only ever asks whether a shorter message fails in the same way, at most TRIES times, so it ends
even for a service that changes its mind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Final

from binderkit.testing.messages import Message, cut

__all__ = ["TRIES", "shrunk"]

TRIES: Final = 300


def shrunk(message: Message, fails: Callable[[Message], bool]) -> Message:
    """Return the shortest variant of ``message`` found for which ``fails`` is true; ``message`` itself if none is."""
    left = TRIES
    progress = True
    while progress:
        progress = False
        for candidate in _simpler(message):
            if left == 0:
                return message
            left -= 1
            if fails(candidate):
                message = candidate
                progress = True
                break
    return message


def _simpler(message: Message) -> Iterator[Message]:
    """Yield variants, the boldest first; each is shorter, has fewer objects, or more zeros."""
    size = len(message.body)
    if message.oneway:
        yield replace(message, oneway=False)
    step = 1 << size.bit_length()
    while step >= 4:
        # From the end: what follows the fault never matters, what leads to it often does.
        for start in range(max(0, size - 1) // step * step, -1, -step):
            yield cut(message, start, min(size, start + step))
        step //= 2
    for at in range(len(message.objects)):
        yield replace(message, objects=message.objects[:at] + message.objects[at + 1 :])
    for at in range(0, size, 4):
        if any(message.body[at : at + 4]):
            zeroed = message.body[:at] + bytes(len(message.body[at : at + 4])) + message.body[at + 4 :]
            yield replace(message, body=zeroed)
