"""What is copied between loopback processes, and what a one-way call is charged."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from binderkit import limits
from binderkit.driver.loopback import LoopbackNetwork
from binderkit.driver.loopback_calls import carry, charge_of
from binderkit.errors import InvalidObjectError, ParcelWriteError, TooBigError
from binderkit.ipc.remote import RemoteObject
from binderkit.parcel import MessageSequence
from binderkit.parcel.objects import KIND_BLOB, KIND_FD, KIND_REMOTE, OwnedFd, Transferable


@pytest.fixture(scope="module")
def network() -> Iterator[LoopbackNetwork]:
    with LoopbackNetwork() as network:
        network.process()
        network.process()
        yield network


@given(values=st.lists(st.integers(-(2**31), 2**31 - 1), max_size=50))
def test_the_data_area_is_a_copy(network: LoopbackNetwork, values: list[int]) -> None:
    sender, receiver = network.process(), network.process()
    sequence = MessageSequence()
    for value in values:
        sequence.write_int(value)
    body, objects = carry(sequence, sender, receiver)
    wanted = bytes(sequence)
    sequence.rewind_write(0)
    sequence.write_string("something else")
    assert (body, objects) == (wanted, None)


def test_every_kind_of_object_is_translated(network: LoopbackNetwork) -> None:
    sender, receiver = network.process(), network.process()
    stub, block = RemoteObject("carried"), os.urandom(50_000)
    with MessageSequence() as sequence:
        sequence.write_remote_object(stub)
        sequence.write_file_descriptor(0)
        sequence.write_raw_data_buffer(block, len(block))
        body, objects = carry(sequence, sender, receiver)
    assert objects is not None
    (kind, proxy), (fd_kind, fd), (blob_kind, blob) = objects.values()
    assert (kind, fd_kind, blob_kind) == (KIND_REMOTE, KIND_FD, KIND_BLOB)
    assert isinstance(fd, OwnedFd)
    assert isinstance(blob, memoryview)
    assert blob.readonly
    assert blob == block, "the block must outlive the sequence it was written to"
    assert charge_of(body, objects) >= len(body) + len(block)
    answer = MessageSequence()
    answer.write_remote_object(proxy)  # type: ignore[arg-type]
    _, home = carry(answer, receiver, sender)
    assert home == {0: (KIND_REMOTE, stub)}
    fd.close()


def test_what_cannot_be_carried_leaves_no_descriptor(network: LoopbackNetwork) -> None:
    class Stranger(Transferable):
        pass

    sender, receiver = network.process(), network.process()
    with MessageSequence() as sequence:
        sequence.write_file_descriptor(0)
        sequence.write_remote_object(Stranger())
        before = len(os.listdir("/proc/self/fd"))
        with pytest.raises(InvalidObjectError):
            carry(sequence, sender, receiver)
        assert len(os.listdir("/proc/self/fd")) == before
    with pytest.raises(ParcelWriteError):
        carry(sequence, sender, receiver)


def test_limits_of_one_message(network: LoopbackNetwork) -> None:
    sender, receiver = network.process(), network.process()
    stub = RemoteObject("many")
    with MessageSequence() as sequence:
        sequence.write_remote_object_array([stub] * limits.MAX_OBJECTS_PER_MESSAGE)
        with pytest.raises(TooBigError, match="several calls"):
            carry(sequence, sender, receiver)
