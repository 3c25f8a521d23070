"""Descriptors and shared memory: they arrive, they work, and none is left behind."""

from __future__ import annotations

import gc
import os

import pytest

import binderkit as bk
from binderkit import limits
from tests.contract.messages import Call, open_descriptors, transact
from tests.contract.service import Code
from tests.contract.world import World, eventually


def their_descriptors(target: bk.IRemoteObject) -> int:
    return transact(target, Code.DESCRIPTORS).read_long()


def test_the_end_of_a_pipe_is_passed_used_and_closed(world: World) -> None:
    target = world.one().root
    ours, theirs = open_descriptors(), their_descriptors(target)
    for number in range(20):
        reading, writing = os.pipe()
        with bk.MessageSequence() as data:
            data.write_long(1)
            data.write_file_descriptor(writing)
            os.close(writing)
            data.write_string(f"hello {number}")
            target.send_request(Code.TAKE_FD, data, bk.MessageSequence())
        with os.fdopen(reading) as text:
            assert text.read() == f"hello {number}", "the end of the pipe comes when every copy is closed"
    eventually(lambda: open_descriptors() <= ours + 2, "we closed all")
    eventually(lambda: their_descriptors(target) <= theirs + 2, "the other side closed all")


def test_a_descriptor_comes_back_in_a_reply(world: World, call: Call) -> None:
    target = world.one().root
    call(target, Code.WHO)
    before = open_descriptors()
    for number in range(20):
        reply = call(target, Code.GIVE_FD, f"reply {number}")
        fd = reply.read_file_descriptor()
        assert not os.get_inheritable(fd)
        with os.fdopen(fd) as text:
            assert text.read() == f"reply {number}"
        reply.reclaim()
    eventually(lambda: open_descriptors() == before, "all are closed")


def test_a_descriptor_nobody_reads_is_closed(world: World, call: Call) -> None:
    target = world.one().root
    call(target, Code.WHO)
    before = open_descriptors()
    for _ in range(20):
        call(target, Code.GIVE_FD, "unread").reclaim()
        call(target, Code.GIVE_FD, "forgotten")
    gc.collect()
    eventually(lambda: open_descriptors() == before, "all are closed")


def test_many_descriptors_in_one_message(world: World) -> None:
    target = world.one().root
    reading, writing = os.pipe()
    count = 100
    with bk.MessageSequence() as data:
        data.write_long(count)
        for _ in range(count):
            data.write_file_descriptor(writing)
            data.write_string("x")
        os.close(writing)
        target.send_request(Code.TAKE_FD, data, bk.MessageSequence())
    with os.fdopen(reading) as text:
        assert text.read() == "x" * count


def test_too_many_descriptors_are_refused_and_none_is_sent(world: World) -> None:
    target = world.one().root
    before = their_descriptors(target)
    with bk.MessageSequence() as data:
        data.write_long(limits.MAX_FDS_PER_MESSAGE + 1)
        for _ in range(limits.MAX_FDS_PER_MESSAGE + 1):
            data.write_file_descriptor(0)
            data.write_string("x")
        with pytest.raises(bk.IpcError):
            target.send_request(Code.TAKE_FD, data, bk.MessageSequence())
    assert their_descriptors(target) <= before + 1


def test_ashmem_is_the_same_memory_on_both_sides(world: World) -> None:
    target = world.one().root
    with bk.Ashmem.create("contract", 4096) as ashmem:
        ashmem.map_read_write_ashmem()
        ashmem.write_data_to_ashmem(b"from us", 7, 0)
        reply = bk.MessageSequence()
        with text_and_ashmem(ashmem, "to you!") as data:
            target.send_request(Code.ASHMEM, data, reply)
        assert (reply.read_string(), reply.read_long()) == ("from us", 0)
        assert ashmem.read_data_from_ashmem(7, 0) == b"to you!"


def text_and_ashmem(ashmem: bk.Ashmem, text: str) -> bk.MessageSequence:
    data = bk.MessageSequence()
    data.write_string(text)
    data.write_ashmem(ashmem)
    return data


def test_narrowed_ashmem_cannot_be_written_by_the_other_side(world: World) -> None:
    target = world.one().root
    with bk.Ashmem.create("contract", 4096) as ashmem:
        ashmem.map_read_write_ashmem()
        ashmem.write_data_to_ashmem(b"fixed", 5, 0)
        ashmem.set_protection_type(bk.Ashmem.PROT_READ)
        reply = bk.MessageSequence()
        with text_and_ashmem(ashmem, "grown") as data:
            target.send_request(Code.ASHMEM, data, reply)
        assert reply.read_string() == "fixed"
        assert reply.read_long() in (1900001, 1900003)
        ashmem.map_readonly_ashmem()
        assert ashmem.read_data_from_ashmem(5, 0) == b"fixed"


def test_descriptors_of_calls_that_fail_are_closed_everywhere(world: World, call: Call) -> None:
    target = world.one().root
    call(target, Code.WHO)
    ours, theirs = open_descriptors(), their_descriptors(target)
    for _ in range(20):
        with bk.MessageSequence() as data:
            data.write_string("value")
            data.write_file_descriptor(1)
            with pytest.raises(bk.RemoteError):
                target.send_request(Code.FAIL, data, bk.MessageSequence())
    gc.collect()
    eventually(lambda: their_descriptors(target) <= theirs + 2, "the other side closed them")
    assert open_descriptors() <= ours + 2
