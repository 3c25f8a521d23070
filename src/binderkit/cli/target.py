"""Which object a command is about: from a word to a proxy, and what can be done with any object.

Owns: ids, names and "0" on the command line, pings and dumps. Never starts SAMgr:
who looks at a system should not change it.
"""

from __future__ import annotations

import os
import time
from typing import Final

from binderkit import process as process  # says which driver this process uses by default
from binderkit.ipc.driver import current_driver
from binderkit.ipc.option import MessageOption
from binderkit.ipc.proxy import DUMP_TRANSACTION, PING_TRANSACTION
from binderkit.ipc.remote import IRemoteObject
from binderkit.parcel import MessageSequence
from binderkit.samgr import SystemAbilityManagerClient
from binderkit.samgr.report import key_of

SAMGR_WORD: Final = "0"
"""SAMgr itself, as in hidumper (reference 2.1)."""


def manager() -> SystemAbilityManagerClient:
    """Return the client of the SAMgr that runs.

    Raises:
        NoServiceManagerError: none runs in the runtime directory (1007).
    """
    return SystemAbilityManagerClient(current_driver().context_object(start=False))


def find(word: str) -> IRemoteObject:
    """Return the object that ``word`` names: an id (decimal or 0x…), a name, or 0 for SAMgr itself.

    Raises:
        ParamValueError: the word is neither an id nor a name (1000, 1001).
        NoServiceManagerError, ServiceNotFoundError, RefusedError: see their texts.
    """
    if word == SAMGR_WORD:
        return manager().as_object()
    key = key_of(word)
    return manager().get_system_ability(key)


def ping(remote: IRemoteObject, timeout: float) -> float:
    """Return the seconds a ping took.

    Raises:
        DeadObjectError, CallTimeoutError: the object's process is gone, or did not answer in time (-32, 502).
    """
    data, reply, option = MessageSequence(), MessageSequence(), MessageOption(timeout=timeout)
    start = time.perf_counter()
    remote.send_request(PING_TRANSACTION, data, reply, option)
    return time.perf_counter() - start


def dump(remote: IRemoteObject, arguments: list[str], timeout: float) -> bytes:
    """Return what the object says about itself.

    The object writes to shared memory of ours, not to a pipe: it never has to wait for us to read.

    Raises:
        RefusedError: this user may not dump it (303).
        DeadObjectError, CallTimeoutError, RemoteError: see their texts.
    """
    descriptor = os.memfd_create("binderkit-dump", os.MFD_CLOEXEC)
    try:
        with MessageSequence() as data, MessageSequence() as reply:
            data.write_file_descriptor(descriptor)
            data.write_string_array(arguments)
            remote.send_request(DUMP_TRANSACTION, data, reply, MessageOption(timeout=timeout))
        with open(descriptor, "rb", closefd=False) as file:
            file.seek(0)
            return file.read()
    finally:
        os.close(descriptor)
