"""The numbers and structures of the Linux Binder device: one table, protocol version 8, 64 bits.

Owns: ioctls, commands written to the device (BC_), returns read from it (BR_), the structures behind them, flags of
calls and nodes, and what this package adds to a message (``TRAILER``). Everything is packed with ``struct`` into
buffers that are kept, so that a call allocates no ctypes object.

A command word carries its own payload size: direction << 30 | size << 16 | type << 8 | number.
"""

from __future__ import annotations

from struct import Struct
from typing import Final, TypeAlias


def _word(direction: int, kind: str, number: int, size: int) -> int:
    return direction << 30 | size << 16 | ord(kind) << 8 | number


_WRITE, _READ, _BOTH = 1, 2, 3

VERSION: Final = 8
"""Of the protocol; what BINDER_VERSION answers on every kernel with 64-bit pointers."""

# --- ioctls -------------------------------------------------------------------------------------
BINDER_WRITE_READ: Final = _word(_BOTH, "b", 1, 48)
BINDER_SET_MAX_THREADS: Final = _word(_WRITE, "b", 5, 4)
BINDER_SET_CONTEXT_MGR: Final = _word(_WRITE, "b", 7, 4)
BINDER_THREAD_EXIT: Final = _word(_WRITE, "b", 8, 4)
BINDER_VERSION: Final = _word(_BOTH, "b", 9, 4)
BINDER_GET_NODE_INFO_FOR_REF: Final = _word(_BOTH, "b", 12, 24)
BINDER_SET_CONTEXT_MGR_EXT: Final = _word(_WRITE, "b", 13, 24)
BINDER_FREEZE: Final = _word(_WRITE, "b", 14, 12)
BINDER_ENABLE_ONEWAY_SPAM_DETECTION: Final = _word(_WRITE, "b", 16, 4)
BINDER_GET_EXTENDED_ERROR: Final = _word(_BOTH, "b", 17, 12)

WRITE_READ: Final = Struct("=QQQQQQ")
"""write size, write consumed, address of the commands, read size, read consumed, address of the returns."""
READ_CONSUMED_AT: Final = 32
WRITE_CONSUMED_AT: Final = 8
NUMBER: Final = Struct("=i")
"""Version, number of threads."""
EXTENDED_ERROR: Final = Struct("=IIi")
"""id, command (a BR_), error number (negative)."""
NODE_INFO: Final = Struct("=IIIIII")
"""handle, strong references, weak references, three zeros: what the context manager alone may ask of an object."""

# --- commands: written ----------------------------------------------------------------------------
BC_TRANSACTION: Final = _word(_WRITE, "c", 0, 64)
BC_REPLY: Final = _word(_WRITE, "c", 1, 64)
BC_FREE_BUFFER: Final = _word(_WRITE, "c", 3, 8)
BC_INCREFS: Final = _word(_WRITE, "c", 4, 4)
BC_ACQUIRE: Final = _word(_WRITE, "c", 5, 4)
BC_RELEASE: Final = _word(_WRITE, "c", 6, 4)
BC_DECREFS: Final = _word(_WRITE, "c", 7, 4)
BC_INCREFS_DONE: Final = _word(_WRITE, "c", 8, 16)
BC_ACQUIRE_DONE: Final = _word(_WRITE, "c", 9, 16)
BC_REGISTER_LOOPER: Final = _word(0, "c", 11, 0)
BC_ENTER_LOOPER: Final = _word(0, "c", 12, 0)
BC_EXIT_LOOPER: Final = _word(0, "c", 13, 0)
BC_REQUEST_DEATH_NOTIFICATION: Final = _word(_WRITE, "c", 14, 12)
BC_CLEAR_DEATH_NOTIFICATION: Final = _word(_WRITE, "c", 15, 12)
BC_DEAD_BINDER_DONE: Final = _word(_WRITE, "c", 16, 8)

# --- returns: read ----------------------------------------------------------------------------------
BR_ERROR: Final = _word(_READ, "r", 0, 4)
BR_OK: Final = _word(0, "r", 1, 0)
BR_TRANSACTION: Final = _word(_READ, "r", 2, 64)
BR_REPLY: Final = _word(_READ, "r", 3, 64)
BR_DEAD_REPLY: Final = _word(0, "r", 5, 0)
BR_TRANSACTION_COMPLETE: Final = _word(0, "r", 6, 0)
BR_INCREFS: Final = _word(_READ, "r", 7, 16)
BR_ACQUIRE: Final = _word(_READ, "r", 8, 16)
BR_RELEASE: Final = _word(_READ, "r", 9, 16)
BR_DECREFS: Final = _word(_READ, "r", 10, 16)
BR_NOOP: Final = _word(0, "r", 12, 0)
BR_SPAWN_LOOPER: Final = _word(0, "r", 13, 0)
BR_FINISHED: Final = _word(0, "r", 14, 0)
BR_DEAD_BINDER: Final = _word(_READ, "r", 15, 8)
BR_CLEAR_DEATH_NOTIFICATION_DONE: Final = _word(_READ, "r", 16, 8)
BR_FAILED_REPLY: Final = _word(0, "r", 17, 0)
BR_FROZEN_REPLY: Final = _word(0, "r", 18, 0)
BR_ONEWAY_SPAM_SUSPECT: Final = _word(0, "r", 19, 0)
BR_TRANSACTION_PENDING_FROZEN: Final = _word(0, "r", 20, 0)

NAMES: Final = {value: name for name, value in list(globals().items()) if name.startswith("BR_")}
"""Return word -> its name, for messages."""

# --- payloads ---------------------------------------------------------------------------------------
WORD: Final = Struct("=I")
TRANSACTION: Final = Struct("=QQIIiIQQQQ")
"""target (a handle when written, a node's pointer when read), cookie, code, flags, pid, euid, then the sizes of
the data and of the offsets and the addresses of both."""
COMMAND_TRANSACTION: Final = Struct("=IQQIIiIQQQQ")
"""The same with its command word in front."""
COMMAND_POINTER: Final = Struct("=IQ")
"""A command with an address: FREE_BUFFER (the data's), DEAD_BINDER_DONE (the cookie)."""
COMMAND_HANDLE: Final = Struct("=II")
"""A command with a handle: INCREFS, ACQUIRE, RELEASE, DECREFS."""
COMMAND_NODE: Final = Struct("=IQQ")
"""A command with a node's pointer and cookie: INCREFS_DONE, ACQUIRE_DONE."""
COMMAND_DEATH: Final = Struct("=IIQ")
"""A command with a handle and a cookie: REQUEST_ and CLEAR_DEATH_NOTIFICATION."""
HEAD: Final = Struct("=Q")
"""The first two returns of a read at once."""
REQUEST_HEAD: Final = BR_NOOP | BR_TRANSACTION << 32
RECEIPT_HEAD: Final = BR_NOOP | BR_TRANSACTION_COMPLETE << 32
REQUEST_SIZE: Final = 8 + TRANSACTION.size
RECEIPT_SIZE: Final = 8
ANSWER_SIZE: Final = 12 + TRANSACTION.size
"""Sizes of the usual reads: NOOP and a request; NOOP and a receipt; both and a reply."""
NODE: Final = Struct("=QQ")
POINTER: Final = Struct("=Q")

# --- objects in a message ---------------------------------------------------------------------------
OBJECT: Final = Struct("=IIQQ")
"""type, flags, pointer or handle or descriptor, cookie: a flat_binder_object or binder_fd_object."""
OBJECT_SIZE: Final = OBJECT.size
TYPE_BINDER: Final = 0x73622A85
TYPE_WEAK_BINDER: Final = 0x77622A85
TYPE_HANDLE: Final = 0x73682A85
TYPE_WEAK_HANDLE: Final = 0x77682A85
TYPE_FD: Final = 0x66642A85
NODE_ACCEPTS_FDS: Final = 0x100
NODE_FLAGS: Final = 0x7F | NODE_ACCEPTS_FDS
"""Of our own objects: no minimum priority of its own (0x7f, as libbinder), descriptors accepted."""
NODE_OURS: Final = 0x10000
"""Ours: an object of this package. The kernel looks at the low 13 bits and hands on the rest as they are."""
NODE_FOREIGN: Final = 0x20000
"""Ours: it stands for an object of another device; whoever gets it makes an RpcProxy (ipc/rpc_proxy.py)."""
BLOB_COOKIE: Final = 0x626C6F62
"""In the cookie of a descriptor of ours that carries a block of raw data; the kernel passes it on untouched."""

# --- flags of a call --------------------------------------------------------------------------------
TF_ONE_WAY: Final = 0x01
TF_STATUS_CODE: Final = 0x08
"""A reply that carries a status (int32) instead of results."""
TF_ACCEPT_FDS: Final = 0x10
TF_TRAILER: Final = 0x02000000
"""Ours: ``TRAILER`` stands at the end of the data. Other users of the device ignore the bit and never read that far."""
TF_OURS: Final = 0x01000000
"""Ours: the sender is of this package, so the reply may be one that only such a one can read."""
TF_SHARED_BODY: Final = 0x04000000
"""Ours: the data is a table, the data area stands in shared memory (objects.py: place_shared)."""

TRAILER: Final = Struct("=QQQ")
"""Call chain id, remaining time in microseconds (0: none), number by which the call can be cancelled (0: it cannot);
directly behind the data area."""
OWNER_TRANSACTION: Final = 0x5F4F574E
"""_OWN: asks an object for the pid of its process, answered by this driver (int64); the kernel tells it to nobody."""
OFFER_TRANSACTION: Final = 0x5F4F4652
"""_OFR: leaves a meeting point at the context manager (meeting.py): two int64 of the token, the object."""
TAKE_TRANSACTION: Final = 0x5F544B45
"""_TKE: takes it: two int64 of the token -> the object."""
HOLDERS_TRANSACTION: Final = 0x5F484C44
"""_HLD: asks the context manager how many processes hold an object of the caller's (the object -> int64)."""
CANCEL_TRANSACTION: Final = 0x5F43414E
"""_CAN: one-way: nobody waits any more for the call with this number (int64), which only its caller knows."""
OWN_TRANSACTIONS: Final = frozenset(
    (OWNER_TRANSACTION, OFFER_TRANSACTION, TAKE_TRANSACTION, HOLDERS_TRANSACTION, CANCEL_TRANSACTION)
)
TRAILER_SIZE: Final = TRAILER.size
Trailer: TypeAlias = tuple[int, int, int]
