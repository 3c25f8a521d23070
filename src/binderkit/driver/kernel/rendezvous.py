"""Where SAMgr is found on a binder device: at handle 0, whoever has that place now.

Owns: looking for it, and having one started. The kernel answers a call to handle 0 of a device without a manager as it
answers one to the dead; references to such a handle it refuses without a word, so the order of the steps matters.

Rules upheld: whatever is waited for has a time limit; holders of a manager that is gone are told.
"""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING

from binderkit.driver.autostart import find_or_start
from binderkit.driver.kernel.target import Target
from binderkit.driver.runtime import accessible_runtime_dir
from binderkit.errors import CallTimeoutError, DeadObjectError, NoServiceManagerError
from binderkit.ipc.option import MessageOption
from binderkit.ipc.proxy import PING_TRANSACTION
from binderkit.limits import HANDSHAKE_WAIT
from binderkit.parcel import MessageSequence

if TYPE_CHECKING:
    from binderkit.driver.kernel.device import Channel
    from binderkit.driver.kernel.node import KernelNode
    from binderkit.ipc.proxy import RemoteProxy


def find_context(node: KernelNode, start: bool) -> RemoteProxy:
    """Return the proxy of the context manager, which is started if none is there and ``start`` says so.

    Raises:
        NoServiceManagerError: there is none and none may be or could be started, or it does not answer.
        RefusedError: it does not admit us, or the runtime directory, which a start needs, cannot be used.
    """
    found = _look(node)
    if found is not None:
        return found
    if not start:
        raise NoServiceManagerError(
            f"no SAMgr is the context manager of {node.device.path}; start one with 'binderkit samgr' and "
            "BINDERKIT_DRIVER=kernel"
        )
    directory = accessible_runtime_dir()
    return find_or_start(
        partial(_look, node),
        start=True,
        where=f"{node.device.path}, whose files are in {directory}",
        directory=directory,
        variables={"BINDERKIT_DRIVER": "kernel", "BINDERKIT_DEVICE": os.path.abspath(node.device.path)},
    )


def _look(node: KernelNode) -> RemoteProxy | None:
    """Return the proxy of the context manager, None when the device has none."""
    channel = node.channel()
    if not _answers(node):
        _bury(node, channel)
        return None
    node.targets.replace_dead_root(channel)
    proxy = node.targets.receive(channel, 0, 0)
    # Asked again: references to a manager that is gone, and notices of its death, are refused without a word.
    if not _answers(node):
        _bury(node, channel)
        return None
    return proxy


def _answers(node: KernelNode) -> bool:
    """Whether handle 0 answers a ping.

    Raises:
        RefusedError: it answers that it does not admit us.
        NoServiceManagerError: it does not answer at all.
    """
    anybody = Target(node, 0, 0, 0)  # not that of a manager we hold: handle 0 is whoever is there now
    wait = MessageOption(timeout=HANDSHAKE_WAIT)
    try:
        anybody.transact(0, PING_TRANSACTION, MessageSequence(), MessageSequence(), wait)
    except DeadObjectError:
        node.device.check_usable()
        return False
    except CallTimeoutError:
        raise NoServiceManagerError(
            f"the context manager of {node.device.path} did not answer within {HANDSHAKE_WAIT:g} s; it is stopped "
            "or overloaded"
        ) from None
    return True


def _bury(node: KernelNode, channel: Channel) -> None:
    """No manager is there: whoever holds the one that was is told, if the kernel did not do so yet."""
    for former in node.targets.all():
        if former.handle == 0 and not former.is_dead:
            node.died(former.cookie)
    node.targets.replace_dead_root(channel)
