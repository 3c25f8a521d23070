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
MAX_ANDROID_NAME: Final = 127
"""Characters of a service's name in Android's service manager (its own limit)."""

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

# --- RPC: requests between devices --------------------------------------------------------------
RPC_MAX: Final = 1 * MIB
"""Bytes of one message to another device; above: raw data (reference 4.2)."""
RPC_PAYLOAD: Final = RPC_MAX + 64 * KIB
"""Bytes an engine carries in one request or answer: a message and what dbinder adds to it (own choice)."""
RPC_HEADER: Final = 256
"""Bytes of a request's header (own choice)."""
RPC_SLICE: Final = 8.0
"""Seconds one request of an engine may wait: Zenoh keeps about 1 kB per request until then (measured). Longer calls
are cut into slices."""
RPC_FIRST_SLICE: Final = 1.0
"""Seconds of the first slice; each is twice as long as the one before. Repeats cost little and are never executed
twice, while a request that the engine lost without a word costs its whole slice (own choice)."""
RPC_REOPEN_WAIT: Final = 2.0
"""Seconds a change of trust waits for requests under way (own choice)."""
RPC_SESSION_AGE: Final = 1.0
"""Seconds a session lives before it is closed for a new one: Zenoh leaves links behind that no session owns when it is
closed while it is connecting (seen at 20 to 100 ms)."""
RPC_LEASE: Final = 2.5
"""Seconds of silence after which a device counts as gone (own choice; the tests of other devices ask for 5)."""
RPC_DEBOUNCE: Final = 0.3
"""Seconds a device may be away without being reported offline: it opens its session anew for a new trust (measured)."""
RPC_REOPEN_GRACE: Final = 5.0
"""The same when a session is opened anew for certain: closing it takes up to 3 s when one of its links is dead, and the
links are back about a second later (own choice)."""
RPC_CALLS_PER_DEVICE: Final = 256
"""Calls to one device that wait for their reply (own choice)."""
RPC_STORED_REPLIES: Final = 16 * MIB
"""Bytes of replies kept for one device until it cannot ask for them again (own choice)."""
RPC_REPLY_KEPT: Final = 16.0
"""Seconds a reply is kept after its caller's deadline: twice the longest slice (own choice)."""
RPC_ONEWAY_MESSAGES: Final = 256
RPC_ONEWAY_BYTES: Final = 1 * MIB
"""One-way messages, and their bytes, that may be on their way to one device (own choice)."""
RPC_DEVICES: Final = 1024
"""Devices a device knows at once (own choice)."""
RPC_LANES: Final = 32
"""Streams to one device that carry calls, each one at a time (own choice)."""
RPC_QUEUED: Final = 512
"""Requests of one device that wait for a thread (own choice)."""
RPC_OLD_BOOTS: Final = 16
"""Earlier boots of a device whose late requests are told from new ones (own choice)."""
MAX_DEVICE_NAME: Final = 64
"""Characters of a device's name (reference 4.5)."""

# --- Devices: trust and pairing (own choices unless a source is named) ----------------------------
MAX_CIRCLE_DEVICES: Final = 64
"""Devices of one circle; the network of one device is configured for 30 (reference 4.7)."""
CERTIFICATE_LIFE: Final = 730 * 86_400
"""Seconds a device's certificate is valid; renewed when a third of it is left."""
MAX_PAIRING_FRAME: Final = 64 * KIB
"""Bytes of one message of a pairing (reference 4.6)."""
PAIRING_TIMEOUT: Final = 10.0
"""Seconds one pairing may take from the connection to its end (reference 4.6)."""
PAIRING_CONNECT_TIMEOUT: Final = 11.0
"""Seconds until the connection to the other device must stand (reference 4.6)."""
MAX_PAIRING_SESSIONS: Final = 8
"""Pairings one offer works on at once."""
PIN_DIGITS: Final = 6
PIN_LIFETIME: Final = 300.0
"""Seconds a PIN that is shown can be used."""
WRONG_PINS: Final = 3
"""Wrong PINs after which pairing is locked."""
PAIRING_LOCK: Final = 60.0
"""Seconds of the first lock; each further one is twice as long, up to MAX_PAIRING_LOCK."""
MAX_PAIRING_LOCK: Final = 3600.0
MIN_PAIRING_SECRET: Final = 16
"""Bytes of a secret for unattended pairing: it is not locked, so it must not be guessable."""
MAX_PAIRING_SECRET: Final = 1024

# --- Devices: discovery (reference 4.5) ------------------------------------------------------------
MAX_DEVICE_TYPE: Final = 32
"""Characters of a device's type (own choice)."""
MAX_CAPABILITY_DATA: Final = 512
"""Bytes of text a publication may carry."""
MAX_PACKAGE_NAME: Final = 64
MAX_PUBLICATIONS: Final = 1024
"""Publications, and subscriptions, of one package."""
MAX_FOUND_DEVICES: Final = 256
"""Devices near by that are remembered: anybody on the network can announce any number (own choice)."""

# --- SoftBus: streams between devices (raw data and sessions; reference 4.2, 4.8) -----------------
STREAM_HANDSHAKE_WAIT: Final = 5.0
"""Seconds a device may take to prove who it is (own choice; SoftBus allows 10 for its many steps)."""
MAX_HANDSHAKES: Final = 64
MAX_HANDSHAKES_PER_ADDRESS: Final = 16
"""Connections that have not yet proven who they are, in all and of one address (own choice)."""
MAX_STREAMS_PER_DEVICE: Final = 160
"""Streams one device may open to us: every session and lane it may have, and some for raw data (own choice)."""
STREAM_DEAD_AFTER: Final = 4.0
"""Seconds sent data may stay without the other kernel's answer; then the stream is broken (a silent device: 5 s)."""
MAX_STREAM_ADDRESSES: Final = 8
"""Addresses of one device that are tried (own choice)."""
BULK_STALL: Final = 8.0
"""Seconds a transfer of raw data may stand still: the time an RPC waits (reference 1.5)."""
BULK_MIN_RATE: Final = 128 * KIB
"""Bytes per second a transfer must reach in the mean: what DBinder itself asks for (reference 4.8)."""
BULK_KEPT: Final = 60.0
"""Seconds raw data waits for the other device to take it (own choice)."""
MAX_BULK_OFFERS: Final = 1024
MAX_BULK_OFFERED: Final = 256 * MIB
"""Blocks of raw data, and their bytes, that wait for one device (own choice: two of the largest blocks)."""
MAX_BULK_RECEIVING: Final = 512 * MIB
"""Bytes of raw data being received at once (own choice, as MAX_POOLED)."""
BULK_IDLE: Final = 30.0
BULK_IDLE_STREAMS: Final = 2
"""Seconds a stream for raw data is kept for the next transfer, and how many of one device (own choice)."""
MAX_SESSION_NAME: Final = 255
MAX_NETWORK_ID: Final = 64
"""Characters of a session's name, a package's name and a network id (reference 4.8)."""
MAX_SESSION_MESSAGE: Final = 4 * KIB
MAX_SESSION_BYTES: Final = 4 * MIB
"""Bytes of one message and of one packet of bytes (reference 4.8)."""
MAX_STREAM_FRAME: Final = 2 * MIB
"""Bytes of one frame of a stream with what describes it (own choice; the reference names none)."""
MAX_SESSIONS_PER_CLIENT: Final = 20
MAX_SESSION_SERVERS: Final = 32
"""Open sessions, and listening sockets, of one application (reference 4.8)."""
MAX_SESSIONS: Final = 100
"""Open sessions of a device (reference 4.8)."""
SESSION_BIND_WAIT: Final = 30.0
"""Seconds a bind may take (reference 4.8)."""
SESSION_ACK_WAIT: Final = 20.0
"""Seconds until what was sent must be acknowledged (reference 4.8)."""
MAX_SESSION_UNACKED: Final = 256
"""Things sent on one session that wait for their acknowledgement (own choice, as RPC_ONEWAY_MESSAGES)."""
SESSION_QUEUE: Final = 8 * MIB
"""Bytes of received data that wait for one listener; then the sender is made to wait (own choice: two packets)."""

# --- dbinder: objects between devices ------------------------------------------------------------
RPC_HANDLE_BASE: Final = 687_200_000
"""Handles from here on stand for objects of another device (reference 0, C2): 100000 x 6872."""
RPC_DATA: Final = RPC_MAX - KIB
"""Bytes of data area in one message to another device: what is added to it on both ends fits into RPC_MAX."""
RPC_INLINE_BLOB: Final = 256 * KIB
"""Raw data and Ashmem contents up to this travel in the message if it has room, above in a stream of their own."""
RPC_SETTLED: Final = 4096
"""Messages of one device whose fate is remembered, for a sender that never heard of it (own choice)."""
