"""Pooled shared memory: slots are reused, bounded, never shared with two peers; views outlive everything."""

from __future__ import annotations

import fcntl
import gc
import mmap
import os
from collections.abc import Iterator

import numpy
import pytest

from binderkit import limits
from binderkit.errors import ProtocolError, QuotaError
from binderkit.memory import pool
from binderkit.parcel.objects import SlotHold, release_dropped_slots

SMALL = limits.SLOT_CLASSES[0]


@pytest.fixture(autouse=True)
def empty() -> Iterator[None]:
    gc.collect()
    pool.trim()
    yield
    gc.collect()
    pool.trim()


def test_the_smallest_slot_that_fits() -> None:
    for size in limits.SLOT_CLASSES:
        assert pool.size_class(size) == size
        assert pool.size_class(size - 1) == size
    with pytest.raises(QuotaError, match="do not fit"):
        pool.size_class(limits.SLOT_CLASSES[-1] + 1)
    assert limits.SLOT_CLASSES[-1] >= limits.MAX_RAW_DATA


def test_a_released_slot_is_used_again() -> None:
    first = pool.take(1000)
    fd = first.fd
    first.release()
    assert pool.statistics() == {"bytes": SMALL, "idle": 1}
    second = pool.take(2000)
    assert second.fd == fd
    assert pool.statistics() == {"bytes": SMALL, "idle": 0}
    second.release()


def test_a_slot_comes_back_with_its_last_hold() -> None:
    slot = pool.take(1)
    slot.hold()
    slot.release()
    assert pool.statistics()["idle"] == 0
    slot.release()
    assert pool.statistics()["idle"] == 1


def test_a_slot_is_never_given_to_a_second_peer() -> None:
    ours, theirs = object(), object()
    slot = pool.take(1, ours)
    slot.shared_with = ours
    slot.release()
    other = pool.take(1, theirs)
    assert other is not slot
    assert pool.take(1, ours) is slot
    other.release()
    slot.release()


def test_slots_of_a_dead_peer_are_closed() -> None:
    peer = object()
    slot = pool.take(1, peer)
    slot.shared_with = peer
    fd = slot.fd
    slot.release()
    pool.forget_peer(peer)
    assert pool.statistics() == {"bytes": 0, "idle": 0}
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(fd)


def test_the_pool_is_bounded_and_idle_slots_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_POOLED", 2 * SMALL)
    first, second = pool.take(1), pool.take(1)
    with pytest.raises(QuotaError, match="in flight, the limit is"):
        pool.take(1)
    first.shared_with = object()  # nobody else may have it
    first.release()
    third = pool.take(1, object())
    assert third is not first
    second.release()
    third.release()


def test_the_size_is_sealed_and_a_receiver_cannot_write() -> None:
    slot = pool.take(1)
    slot.buffer[:4] = b"mine"
    for action in (
        lambda: os.ftruncate(slot.fd, 10),
        lambda: os.ftruncate(slot.fd, SMALL * 2),
        lambda: os.pwrite(slot.fd, b"x", 0),
        lambda: mmap.mmap(slot.fd, SMALL),
        lambda: fcntl.fcntl(slot.fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE),
    ):
        with pytest.raises(OSError):
            action()
    slot.buffer[:4] = b"stil"  # the sender goes on writing
    mapping = pool.Mapping(slot.fd, SMALL)
    view = mapping.view(4, lambda: None)
    assert bytes(view) == b"stil"
    with pytest.raises(TypeError):
        view[0] = 1
    slot.release()


@pytest.mark.parametrize("derive", [
    lambda view: view[10:20],
    lambda view: view[::2],
    lambda view: view.cast("i"),
    lambda view: numpy.frombuffer(view, dtype=numpy.uint8),
    lambda view: numpy.frombuffer(view, dtype=numpy.uint8)[5:].reshape(-1, 5)[1],
    lambda view: memoryview(numpy.asarray(view)),
])  # fmt: skip
def test_what_is_made_from_a_view_keeps_the_memory(derive: object) -> None:
    """A weakref to the view itself would call back while slices live."""
    slot = pool.take(100)
    slot.buffer[:100] = bytes(range(100))
    mapping = pool.Mapping(slot.fd, SMALL)
    released: list[int] = []
    view = mapping.view(100, lambda: released.append(1))
    derived = derive(view)  # type: ignore[operator]
    expected = bytes(derived)
    del view
    gc.collect()
    assert released == []
    assert mapping.in_use
    with pytest.raises(ProtocolError, match="still in use here"):
        mapping.view(10, lambda: None)
    del mapping  # and even the mapping itself
    gc.collect()
    assert bytes(derived) == expected
    del derived
    gc.collect()
    assert released == [1]
    slot.release()


def test_a_view_can_be_made_again_after_the_last_is_gone() -> None:
    slot = pool.take(1)
    mapping = pool.Mapping(slot.fd, SMALL)
    released: list[int] = []
    for _ in range(3):
        view = mapping.view(10, lambda: released.append(1))
        del view
    assert released == [1, 1, 1]
    with pytest.raises(ProtocolError, match="announced in a shared slot"):
        mapping.view(SMALL + 1, lambda: None)
    slot.release()


def test_only_sealed_memory_of_a_known_size_is_mapped() -> None:
    fd = os.memfd_create("bad", os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, SMALL)
    with pytest.raises(ProtocolError, match="not sealed"):
        pool.Mapping(fd, SMALL)
    with pytest.raises(ProtocolError, match="sizes are"):
        pool.Mapping(fd, 4096)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
    with pytest.raises(ProtocolError, match="differs"):
        pool.Mapping(fd, limits.SLOT_CLASSES[1])
    os.close(fd)
    null = os.open("/dev/null", os.O_RDONLY)
    with pytest.raises(ProtocolError, match="not a memfd"):
        pool.Mapping(null, SMALL)
    os.close(null)


def test_a_forked_child_uses_none_of_its_parents_slots() -> None:
    slot = pool.take(1)
    slot.release()
    idle = slot.fd
    child = os.fork()
    if child == 0:
        ok = pool.statistics() == {"bytes": 0, "idle": 0} and pool.take(1).fd != idle
        os._exit(0 if ok else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert pool.take(1) is slot
    slot.release()


def test_a_slot_that_dies_in_a_cycle_with_its_holder_is_not_used_again() -> None:
    """The collector calls both finalizers; the holder's brings the closed slot back for its release."""
    slot = pool.take(1)
    cycle: list[object] = [slot, SlotHold(slot)]
    cycle.append(cycle)
    del slot, cycle
    gc.collect()
    release_dropped_slots()
    assert pool.statistics() == {"bytes": 0, "idle": 0}
