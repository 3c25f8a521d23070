"""Every limit of binderkit: value, reason, source.

A limit that a user can meet is named in the error that enforces it. The
sources are sections of OpenHarmony's own behaviour ("reference") or our own
measurements ("measured", see PROTOCOL.md).
"""

from __future__ import annotations

from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * KIB

# --- Parcel (reference 1.1, 1.2, 1.4) ---------------------------------------------------------
MAX_TRANSACTION: Final = 200 * KIB
"""Bytes of data in one on-device transaction; above: Ashmem or raw data (reference 0, C1)."""
MAX_STRING_UNITS: Final = 40_960
"""A string or interface token must be shorter than this many UTF-16 units (reference 1.2)."""
MAX_DESCRIPTION: Final = 4 * MIB
"""Bytes of an object's description of itself that are read (own choice)."""
# What one interface may have in such a description (own choices, far above what people write):
MAX_DESCRIBED_METHODS: Final = 4096
"""Methods; as many properties, and interfaces it extends."""
MAX_DESCRIBED_PARAMETERS: Final = 255
"""Parameters of a method; also its exceptions, the parts of a tuple or union, the values of a literal."""
MAX_DESCRIBED_TYPES: Final = 4096
MAX_DESCRIBED_FIELDS: Final = 1024
"""Fields of a struct."""
MAX_DESCRIBED_MEMBERS: Final = 8192
"""Members of an enum."""
MAX_DESCRIBED_NESTING: Final = 32
"""Levels of a type such as list[list[int]]; recursive types refer to themselves by name and need none."""
MAX_DESCRIBED_TEXT: Final = 64 * KIB
"""Characters of a doc."""
MAX_DESCRIBED_WORD: Final = 1000
"""Characters of a name, or of a literal's value."""
MAX_EMPTY_PARTS: Final = 4
"""Parts of a described tuple or struct that take no bytes: many would make few bytes expand to many values."""
MAX_ELEMENTS: Final = 102_400
"""Elements of one list, set or map of a typed call (reference 5.5)."""
MAX_RAW_DATA: Final = 128 * MIB
"""Bytes of one raw data block (reference 1.4)."""
RAW_DATA_INLINE: Final = 32 * KIB
"""Raw data up to this travels in the data area, above it through shared memory (reference 1.4)."""
MAX_CAPACITY: Final = 1 * MIB
"""Highest capacity a sequence can be raised to by set_capacity (Binder's own mapping is 1 MiB)."""
MIN_CAPACITY: Final = 64
CAPACITY_STEP: Final = 4096

# --- Transaction codes (reference 1.12) -------------------------------------------------------
MIN_TRANSACTION_ID: Final = 1
MAX_TRANSACTION_ID: Final = 0x00FFFFFF

# --- Calls (reference 1.5, 1.13) --------------------------------------------------------------
DEFAULT_WAIT_TIME: Final = 8
"""Seconds an RPC waits for its reply; on-device calls wait for ever unless they carry a timeout."""
MAX_WAIT_TIME: Final = 3000
"""Seconds; also the longest timeout (it travels as a 32-bit number of microseconds)."""
DEFAULT_WORK_THREADS: Final = 16
MIN_WORK_THREADS: Final = 1
MAX_WORK_THREADS: Final = 32
HARD_THREADS: Final = 256
"""Threads of a pool including those that wait in outgoing calls (measured: prototype)."""
SLOW_POOL_WARNING: Final = 0.5
"""Seconds for which a request may find no free thread before a warning (reference 1.13)."""

# --- Buffers per target process (reference 0, C1) ---------------------------------------------
ONEWAY_BUDGET: Final = (1 * MIB - 2 * 4096) // 2
"""520 192 bytes of one-way calls may be on their way to one process."""

# --- The socket driver (measured: prototype) --------------------------------------------------
INLINE_BODY: Final = 64 * KIB
"""A data area above this travels in pooled shared memory instead of the packet."""
PARK_TIME: Final = 0.02
"""Seconds a server thread stays on a lane after its last request."""
ONEWAY_SEND_WAIT: Final = 5.0
"""Seconds a one-way call may find the target's socket full before it fails."""
HANDSHAKE_WAIT: Final = 5.0
"""Seconds the other side may take to say who it is."""
SLOT_CLASSES: Final = (256 * KIB, 1 * MIB, 4 * MIB, 16 * MIB, 64 * MIB, 128 * MIB + 4096)
"""Sizes of pooled shared-memory slots; fixed, so that a mapping can be reused."""
MAX_POOLED: Final = 512 * MIB
"""Bytes of shared memory a process keeps in its pool for reuse or in flight."""
MAX_SLOTS_PER_PEER: Final = 64
"""Pooled slots of one peer that we keep mapped."""

# --- Per peer: what one other process may make us hold -----------------------------------------
MAX_LANES_PER_PEER: Final = 256
MAX_OBJECTS_PER_MESSAGE: Final = 1024
MAX_FDS_PER_MESSAGE: Final = 253
"""The kernel's own limit for one message (SCM_MAX_FD)."""
MAX_REFERENCES_PER_PEER: Final = 20_000
"""Objects of ours one peer can hold, and proxies we hold of one peer (reference 1.7)."""
MAX_DEFERRED_RELEASES: Final = 100_000
"""References given back that may wait until the one-way calls sent before them were read."""
MAX_PENDING_INTRODUCTIONS: Final = 1024
"""Handshakes under way at once; each ends after HANDSHAKE_WAIT."""
MAX_PEERS: Final = 8192
MAX_PEERS_PER_USER: Final = 4096

# --- SAMgr (reference 2.1, 2.2) -----------------------------------------------------------------
MIN_ABILITY_ID: Final = 1
MAX_ABILITY_ID: Final = 0x00FFFFFF
MAX_ABILITIES: Final = 1000
MAX_SUBSCRIPTIONS_PER_PID: Final = 256

# --- SAMgr: loading and unloading (reference 2.2, 2.5) -------------------------------------------
LOAD_TIMEOUT: Final = 4.0
"""Seconds a load may take until its caller is told 999; the ability may still come."""
MAX_LOAD_TIMEOUT: Final = 12.0
"""Seconds a caller may wait for a load (the extended configuration)."""
START_TIMEOUT: Final = 20.0
"""Seconds from the start of an ability until it must be registered, else its process is ended (own choice)."""
MAX_CALLBACKS_PER_PID: Final = 256
"""Load callbacks of one process that wait."""
MAX_PENDING_LOADS_PER_PID: Final = 50
"""Loads of one process that wait for the end of an ability that is being unloaded."""
STOP_TIME: Final = 5.0
"""Seconds a process has to end before it is killed."""
RESTART_WINDOW: Final = 20.0
MAX_RESTARTS: Final = 4
"""Automatic restarts of a process within RESTART_WINDOW seconds; after that it stays down."""
RESTARTED_LATELY: Final = 600.0
RECYCLE_DELAY_ADDED: Final = 10.0
"""Seconds added to the delay of an unload when the ability was started within RESTARTED_LATELY seconds of its end."""
REFERENCES_INTERVAL: Final = 60.0
"""Seconds between two counts of who holds an ability that goes when nobody does."""
MAX_SYSTEM_PROCESSES: Final = 1000
MAX_ON_DEMAND_PER_PROCESS: Final = 256
"""Abilities that one process without profile may offer to start when they are asked for (own choice)."""
MAX_EXTRA_DATA: Final = 256
"""Payloads of common events that are kept for the abilities they started."""
MAX_KNOWN_VALUES: Final = 4096
"""Last values of events that are kept for conditions, per kind."""

# --- Abilities (own choices) --------------------------------------------------------------------
MAX_CONNECTIONS_PER_CLIENT: Final = 256
"""Ability connections of one process, as many as subscriptions at SAMgr."""
MAX_PENDING_COMMANDS: Final = 50
"""Starts of one ability that wait for its on_request."""

# --- Processes of services (own choices unless a source is named) ------------------------------
MAX_SERVICE_PROCESSES: Final = 1000
"""Processes one supervisor runs at once: as many as there can be system abilities."""
MAX_LOG_FILE: Final = 1 * MIB
"""Bytes of a process's log after which it is rotated."""
LOG_FILES_KEPT: Final = 3
"""Rotated logs kept of one process."""
MAX_PERMISSION: Final = 128
"""Characters of a permission's name."""
MAX_PERMISSIONS: Final = 1024
"""Permissions one process may declare."""

# --- IDL files (reference 5.4) ------------------------------------------------------------------
MAX_IDL_SIZE: Final = 4 * MIB
"""Characters of one file; a written contract is far below (own choice)."""
MAX_IDL_NESTING: Final = 100
"""Levels of a type or an expression: everything that walks along them is recursive (own choice)."""
MAX_IDL_CAPACITY: Final = 131_071
"""Highest ipcincapacity and ipcoutcapacity, in KB (reference 5.4)."""
MAX_IDL_CACHE_TIME: Final = 2**31 - 1
"""Longest time of a cacheable method, in milliseconds (an int; the reference names no limit)."""
MAX_IDL_SHIFT: Final = 63
"""Bits an expression may shift by: the next one is undefined in C."""
