"""From the bytes a device wrote into a read buffer to returns: a pure parser.

Owns: ``events``, the general way through a read buffer. (A thread that waits for its reply reads the usual sequence by
itself, calls.py.) The driver trusts the kernel, but a parser that believes lengths is one fault away from reading
nonsense: what is malformed raises ProtocolError.
"""

from __future__ import annotations

from collections.abc import Iterator

from binderkit.driver.kernel.protocol import NAMES, WORD
from binderkit.errors import ProtocolError

_word = WORD.unpack_from


def events(buffer: bytes | bytearray | memoryview, size: int) -> Iterator[tuple[int, int]]:
    """Yield (return word, offset of its payload) for the first ``size`` bytes of ``buffer``.

    Raises:
        ProtocolError: a word that is no BR_, or a payload that ends behind ``size``.
    """
    if size > len(buffer):
        raise ProtocolError(f"the binder device says it wrote {size} bytes into a buffer of {len(buffer)}")
    at = 0
    while at < size:
        if at + 4 > size:
            raise ProtocolError(f"{size - at} bytes left where a return of the binder device was expected")
        (word,) = _word(buffer, at)
        if word not in NAMES:
            raise ProtocolError(f"the binder device returned {word:#x} at byte {at}, which is no known return")
        end = at + 4 + (word >> 16 & 0x3FFF)
        if end > size:
            raise ProtocolError(f"{NAMES[word]} at byte {at} ends at {end}, behind the {size} bytes that were read")
        yield word, at + 4
        at = end
