"""Plans: several values of different types, one after the other.

Owns: what fields of a struct, elements of a tuple and parameters have in common. Neighbours of fixed size (a "run") are
packed and unpacked by one precompiled struct, everything else by its codec. Rule upheld: what does not fit is named.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from struct import Struct
from struct import error as StructError
from typing import Any, NamedTuple

from binderkit.interface.codec.base import Codec, Fixed, Mismatch
from binderkit.parcel import MessageSequence

__all__ = ["Plan"]


class _Step(NamedTuple):
    """Values ``first`` … ``stop`` - 1: a run, or one value if ``pack`` is None.

    ``kinds`` are the classes that are packed as they are, ``conversions`` what is done to an unpacked word.
    """

    first: int
    stop: int
    kinds: tuple[type | None, ...]
    pack: Callable[..., bytes] | None
    write: Callable[[MessageSequence, Any], None]


class _Read(NamedTuple):
    unpack: Callable[..., tuple[Any, ...]] | None
    width: int
    conversions: tuple[tuple[int, Callable[[Any], Any]], ...]
    read: Callable[[MessageSequence], Any]


class Plan:
    """Writes and reads a row of values.

    Args:
        codecs: one for each value.
        steps: how each value is named in the path of an error, e.g. ".width".

    Attributes:
        size: bytes of a whole row if that is always the same, else None. minimum: fewest bytes.
    """

    def __init__(self, codecs: Sequence[Codec], steps: Sequence[str]) -> None:
        self.codecs = tuple(codecs)
        self.names = tuple(steps)
        self.minimum = sum(codec.minimum for codec in codecs)
        self.size = self.minimum if all(codec.fmt for codec in codecs) else None
        self._writes: list[_Step] = []
        self._reads: list[_Read] = []
        first = 0
        while first < len(self.codecs):
            stop = first
            while stop < len(self.codecs) and isinstance(self.codecs[stop], Fixed):
                stop += 1
            if stop == first:
                codec = self.codecs[first]
                stop += 1
                self._writes.append(_Step(first, stop, (), None, codec.write))
                self._reads.append(_Read(None, 0, (), codec.read))
            else:
                self._add_run(first, stop)
            first = stop

    def _add_run(self, first: int, stop: int) -> None:
        run = [codec for codec in self.codecs[first:stop] if isinstance(codec, Fixed)]
        packer = Struct("<" + "".join(codec.fmt for codec in run))
        conversions = tuple((at, codec.from_word) for at, codec in enumerate(run) if codec.from_word is not None)
        kinds = tuple(codec.exact for codec in run)
        self._writes.append(_Step(first, stop, kinds, packer.pack, run[0].write))
        self._reads.append(_Read(packer.unpack_from, packer.size, conversions, run[0].read))

    def write(self, out: MessageSequence, values: Any) -> None:
        """Append a row.

        Args:
            values: a tuple or list with a value for each codec.

        Raises:
            As Codec.write.
        """
        for first, stop, kinds, pack, write in self._writes:
            if pack is None:
                try:
                    write(out, values[first])
                except Mismatch as mismatch:
                    mismatch.inside(self.names[first])
                    raise
                continue
            run = values[first:stop]
            target = out._out
            try:
                target += pack(*run) if tuple(map(type, run)) == kinds else pack(*self._words(first, run))
            except (StructError, OverflowError, TypeError):
                out._writable()
                self._words(first, run)
                raise
            if len(target) > out._limit:
                out._too_big(len(target))

    def _words(self, first: int, run: Sequence[Any]) -> list[Any]:
        """Return the words of a run's values, or say which does not fit."""
        words = []
        for at, value in enumerate(run, first):
            try:
                words.append(self.codecs[at].to_word(value))  # type: ignore[attr-defined]
            except Mismatch as mismatch:
                mismatch.inside(self.names[at])
                raise
        return words

    def read(self, data: MessageSequence, end: int) -> list[Any]:
        """Return the values of a row, fewer if there are no more before ``end``.

        Args:
            end: position at most the end of the data. The read position can lie behind it afterwards: the last value
                crossed it, the row is malformed.

        Raises:
            As Codec.read.
        """
        values: list[Any] = []
        for unpack, width, conversions, read in self._reads:
            pos = data._pos
            if pos + width > end or (pos == end and not unpack):
                return self._read_singly(data, end, values)
            if unpack is None:
                values.append(read(data))
                continue
            words = unpack(data._in, pos)
            values += self._values(data, words, conversions, len(values)) if conversions else words
            data._pos = pos + width
        return values

    def _values(
        self,
        data: MessageSequence,
        words: tuple[Any, ...],
        conversions: tuple[tuple[int, Callable[[Any], Any]], ...],
        first: int,
    ) -> list[Any]:
        values = list(words)
        for at, convert in conversions:
            try:
                values[at] = convert(values[at])
            except ValueError as error:
                data._malformed(f"{self.names[first + at]}, {self.codecs[first + at].name()}", str(error))
        return values

    def _read_singly(self, data: MessageSequence, end: int, values: list[Any]) -> list[Any]:
        """Read the rest of a row that may end early."""
        for codec in self.codecs[len(values) :]:
            if data._pos >= end and codec.minimum:
                break
            values.append(codec.read(data))
        return values
