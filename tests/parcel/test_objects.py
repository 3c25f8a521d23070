"""Object records and the owners of descriptors and slots."""

from __future__ import annotations

import gc
import os

import pytest

from binderkit.errors import DescriptorError
from binderkit.memory import pool
from binderkit.parcel import objects
from binderkit.parcel.objects import OwnedFd, SlotHold


def null_fd() -> int:
    return os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)


def is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def test_a_record_is_a_flat_binder_object() -> None:
    record = objects.pack_record(objects.BINDER_TYPE_HANDLE, 0, 7, 0)
    assert record.hex() == "852a6873000000000700000000000000" + "00" * 8
    assert objects.RECORD_SIZE == len(record) == 24
    assert objects.unpack_record(record, 0) == (objects.BINDER_TYPE_HANDLE, 0, 7, 0)
    assert objects.BINDER_TYPE_BINDER.to_bytes(4, "big") == b"sb*\x85"
    assert objects.BINDER_TYPE_HANDLE.to_bytes(4, "big") == b"sh*\x85"
    assert objects.BINDER_TYPE_FD.to_bytes(4, "big") == b"fd*\x85"


def test_an_owned_descriptor_is_closed_exactly_once() -> None:
    fd = null_fd()
    owner = OwnedFd(fd)
    assert owner.fileno() == fd
    assert repr(owner) == f"<OwnedFd {fd}>"
    owner.close()
    assert not is_open(fd)
    other = null_fd()
    assert other == fd  # the number is in use again: a second close would hit a stranger
    owner.close()
    del owner
    gc.collect()
    assert is_open(other)
    os.close(other)


def test_an_owned_descriptor_is_closed_by_with_and_when_forgotten() -> None:
    with OwnedFd(null_fd()) as owner:
        fd = owner.fileno()
    assert not is_open(fd)
    owner = OwnedFd(null_fd())
    fd = owner.fileno()
    del owner
    assert not is_open(fd)


def test_a_duplicate_is_the_callers_and_is_closed_on_exec() -> None:
    with OwnedFd(null_fd()) as owner:
        copy = owner.dup()
    assert is_open(copy)
    assert not os.get_inheritable(copy)
    os.close(copy)


def test_a_closed_descriptor_has_no_number() -> None:
    owner = OwnedFd(null_fd())
    owner.close()
    for use in (owner.fileno, owner.dup):
        with pytest.raises(DescriptorError, match="was closed") as caught:
            use()
        assert caught.value.code == 1900013
    assert repr(owner) == "<OwnedFd closed>"


@pytest.mark.parametrize("fd", [-1, 1_000_000, 2**40])
def test_what_cannot_be_duplicated(fd: int) -> None:
    with pytest.raises(DescriptorError, match=f"descriptor {fd}") as caught:
        objects.duplicate(fd)
    assert isinstance(caught.value, OSError)


def idle() -> int:
    objects.release_dropped_slots()
    return pool.statistics()["idle"]


def test_a_slot_is_released_exactly_once() -> None:
    hold = SlotHold(pool.take(1000))
    before = idle()
    hold.release()
    assert idle() == before + 1
    hold.release()
    del hold
    assert idle() == before + 1


def test_a_forgotten_slot_is_released_later_not_by_the_finalizer() -> None:
    hold = SlotHold(pool.take(1000))
    before = pool.statistics()["idle"]
    with pool._lock:  # as if the garbage collector ran inside the pool: a finalizer that locks would hang
        del hold
    assert pool.statistics()["idle"] == before
    assert idle() == before + 1


def test_a_view_keeps_its_slot_out_of_the_pool() -> None:
    slot = pool.take(1000)
    hold = SlotHold(slot)
    slot.buffer[:4] = b"abcd"
    view = objects.view_holding(slot, 1000)
    part = view[:4].cast("i")
    before = idle()
    hold.release()
    del view, slot
    assert idle() == before
    assert (part.tobytes(), part.readonly) == (b"abcd", True)
    del part
    assert idle() == before + 1
