"""The table against numbers known from the kernel's side, and its parts against each other."""

from __future__ import annotations

from binderkit.driver.kernel import protocol as p


def test_words_are_those_of_the_kernel() -> None:
    assert (p.BINDER_WRITE_READ, p.BINDER_VERSION) == (0xC0306201, 0xC0046209)
    assert (p.BINDER_SET_CONTEXT_MGR, p.BINDER_SET_MAX_THREADS) == (0x40046207, 0x40046205)
    assert (p.BC_TRANSACTION, p.BC_REPLY, p.BC_FREE_BUFFER) == (0x40406300, 0x40406301, 0x40086303)
    assert (p.BC_ENTER_LOOPER, p.BC_REQUEST_DEATH_NOTIFICATION) == (0x0000630C, 0x400C630E)
    assert (p.BR_TRANSACTION, p.BR_REPLY, p.BR_DEAD_REPLY) == (0x80407202, 0x80407203, 0x7205)
    assert (p.BR_NOOP, p.BR_DEAD_BINDER, p.BR_FAILED_REPLY) == (0x720C, 0x8008720F, 0x7211)


def test_each_word_carries_the_size_of_its_structure() -> None:
    sizes = {
        p.BINDER_WRITE_READ: p.WRITE_READ.size,
        p.BINDER_VERSION: p.NUMBER.size,
        p.BINDER_GET_EXTENDED_ERROR: p.EXTENDED_ERROR.size,
        p.BINDER_SET_CONTEXT_MGR_EXT: p.OBJECT.size,
        p.BR_TRANSACTION: p.TRANSACTION.size,
        p.BR_REPLY: p.TRANSACTION.size,
        p.BR_ACQUIRE: p.NODE.size,
        p.BR_DEAD_BINDER: p.POINTER.size,
        p.BC_TRANSACTION: p.COMMAND_TRANSACTION.size - 4,
        p.BC_REPLY: p.COMMAND_TRANSACTION.size - 4,
        p.BC_FREE_BUFFER: p.COMMAND_POINTER.size - 4,
        p.BC_DEAD_BINDER_DONE: p.COMMAND_POINTER.size - 4,
        p.BC_ACQUIRE: p.COMMAND_HANDLE.size - 4,
        p.BC_RELEASE: p.COMMAND_HANDLE.size - 4,
        p.BC_ACQUIRE_DONE: p.COMMAND_NODE.size - 4,
        p.BC_INCREFS_DONE: p.COMMAND_NODE.size - 4,
        p.BC_REQUEST_DEATH_NOTIFICATION: p.COMMAND_DEATH.size - 4,
        p.BC_CLEAR_DEATH_NOTIFICATION: p.COMMAND_DEATH.size - 4,
    }
    assert {word: word >> 16 & 0x3FFF for word in sizes} == sizes


def test_types_of_objects_are_three_letters_and_a_mark() -> None:
    kinds = (p.TYPE_BINDER, p.TYPE_WEAK_BINDER, p.TYPE_HANDLE, p.TYPE_WEAK_HANDLE, p.TYPE_FD)
    assert [kind.to_bytes(4, "big") for kind in kinds] == [
        b"sb*\x85",
        b"wb*\x85",
        b"sh*\x85",
        b"wh*\x85",
        b"fd*\x85",
    ]


def test_own_codes_are_reserved_ones_and_differ() -> None:
    assert len(p.OWN_TRANSACTIONS) == 5
    assert all(code > 0x00FFFFFF for code in p.OWN_TRANSACTIONS)
