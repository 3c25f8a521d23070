"""The same calls through a contract (binderkit.interface): what the types cost.

Imports numpy, which the smallest service does not; hence not in services.py.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import binderkit as bk
from bench import measure
from bench.peers.mp_connection import Connection
from binderkit.interface import Interface, method, proxy

NUMBERS = 1000
ARRAY_BYTES = 1024 * 1024
PAGE = 4096


@dataclass
class Record:
    """Ten fields of the usual kinds."""

    number: int
    size: int
    offset: int
    count: int
    uid: int
    pid: int
    ratio: float
    scale: float
    name: str
    kind: str


RECORD = Record(1, 2, 3, 4, 5, 6, 0.5, 1.5, "photograph", "jpeg")


class ITyped(Interface, descriptor="bench.ITyped"):
    """What is measured."""

    @method
    def echo(self, value: int) -> int: ...
    @method
    def record(self, value: Record) -> Record: ...
    @method
    def numbers(self, values: list[int]) -> list[int]: ...
    @method
    def array(self, values: npt.NDArray[Any]) -> int: ...
    @method
    def ashmem(self, memory: bk.Ashmem) -> int: ...


class Typed(ITyped):
    """Gives back what it gets; of large data it touches every page."""

    def echo(self, value: int) -> int:
        """Return the value."""
        return value

    def record(self, value: Record) -> Record:
        """Return the record."""
        return value

    def numbers(self, values: list[int]) -> list[int]:
        """Return the numbers."""
        return values

    def array(self, values: npt.NDArray[Any]) -> int:
        """Return the bytes of the array."""
        view = values.data.cast("B")
        view[::PAGE].tobytes()
        return view.nbytes

    def ashmem(self, memory: bk.Ashmem) -> int:
        """Return the bytes of the memory."""
        with memory:
            memory.map_readonly_ashmem()
            with memory.view() as view:
                view[::PAGE].tobytes()
            return memory.get_ashmem_size()


class TypedClient:
    """The client's side, with a server process of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = Path(tempfile.mkdtemp(dir=folder))
        self._child = bk.spawn(Typed)
        self._typed = proxy(ITyped, self._child.root)
        self._plain: Connection | None = None

    def close(self) -> None:
        """End the server processes."""
        if self._plain is not None:
            self._plain.close()
        self._child.close()

    def echo(self, seconds: float) -> dict[str, float]:
        """An int each way."""
        call = self._typed.echo
        return measure.timed(lambda: call(7), seconds)

    def record(self, seconds: float) -> dict[str, float]:
        """A dataclass of ten fields each way."""
        call = self._typed.record
        if call(RECORD) != RECORD:
            raise AssertionError("another record came back")
        return measure.timed(lambda: call(RECORD), seconds)

    def numbers(self, seconds: float) -> dict[str, float]:
        """A list of 1,000 ints each way."""
        call, values = self._typed.numbers, list(range(NUMBERS))
        if call(values) != values:
            raise AssertionError("other numbers came back")
        return measure.timed(lambda: call(values), seconds)

    def numbers_pickled(self, seconds: float) -> dict[str, float]:
        """The same by multiprocessing.connection, which pickles them."""
        if self._plain is None:
            self._plain = Connection(self._folder)
            self._plain.start()
        call, values = self._plain.echo_any, list(range(NUMBERS))
        if call(values) != values:
            raise AssertionError("other numbers came back")
        return measure.timed(lambda: call(values), seconds)

    def array(self, seconds: float) -> dict[str, float]:
        """A numpy array of 1 MiB, received without a copy."""
        call, values = self._typed.array, np.arange(ARRAY_BYTES // 8, dtype=np.float64)
        if call(values) != ARRAY_BYTES:
            raise AssertionError("another number of bytes arrived")
        return measure.timed(lambda: call(values), seconds)

    def ashmem(self, seconds: float) -> dict[str, float]:
        """The same bytes through an Ashmem that is kept and written anew each time."""
        call, data = self._typed.ashmem, bytes(ARRAY_BYTES)
        with bk.Ashmem.create("bench", ARRAY_BYTES) as memory:
            memory.map_read_write_ashmem()

            def send() -> None:
                memory.write_data_to_ashmem(data, ARRAY_BYTES, 0)
                call(memory)

            return measure.timed(send, seconds)
