"""What a process started by ``spawn`` runs: ``python -m binderkit.child CONNECTION ORDER`` (two descriptors).

Owns: the child's side of spawn. The order comes from the parent, through an inherited file, never from a connection.
"""

from __future__ import annotations

import importlib
import json
import os
import runpy
import signal
import sys
from typing import Any


def load(name: str) -> Any:
    """Return the object "module:attribute", or "/path/file.py:attribute" names."""
    module, _, attribute = name.rpartition(":")
    if module.endswith(".py"):
        # The parent's main script, under another name so that its main part does not run.
        space = runpy.run_path(module, run_name="__binderkit_main__")
        first, *rest = attribute.split(".")
        found = space[first]
    else:
        found = importlib.import_module(module)
        rest = attribute.split(".")
    for part in rest:
        found = getattr(found, part)
    return found


def main(arguments: list[str]) -> int:
    """Serve the root object until the parent is gone or SIGTERM comes."""
    fd = int(arguments[0])
    with open(int(arguments[1]), "rb") as paper:
        paper.seek(0)
        order = json.load(paper)
    sys.path[:] = order["path"]
    if fd < 0:
        return serve_over_device(order)
    from binderkit.driver.unix.ending import Ending
    from binderkit.driver.unix.handshake import adopt
    from binderkit.ipc.remote import RemoteObject
    from binderkit.process import local_node, shutdown

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides when its children end
    with Ending() as ending:
        sock = adopt(fd)
        parent = os.getppid()
        root = load(order["root"])(*order["args"])
        node = local_node()
        node.on_peer_death(lambda peer: ending.come() if peer.caller.pid == parent else None)
        node.become_context(root if isinstance(root, RemoteObject) else root.as_object())
        node.serve_root(sock)
        del root
        ending.wait()
        shutdown()
    return 0


def serve_over_device(order: dict[str, Any]) -> int:
    """Do the same on a binder device, where the parent waits at a meeting point; for the main thread.

    Args:
        order: ``root`` and ``args`` as ``spawn`` takes them, the ``device``, and the ``token`` of the meeting point.

    Returns:
        The exit status.
    """
    from binderkit.driver.kernel.meeting import meet
    from binderkit.driver.kernel.node import KernelNode
    from binderkit.driver.unix.ending import Ending
    from binderkit.ipc.driver import set_driver
    from binderkit.ipc.proxy import DeathRecipient
    from binderkit.ipc.remote import RemoteObject
    from binderkit.process import shutdown

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides when its children end
    with Ending() as ending:

        class ParentGone(DeathRecipient):
            def on_remote_died(self) -> None:
                ending.come()

        node = KernelNode(order["device"])
        set_driver(node)  # before the root is made, which may register itself somewhere
        root = load(order["root"])(*order["args"])
        point = meet(node, bytes.fromhex(order["token"]), root if isinstance(root, RemoteObject) else root.as_object())
        point.register_death_recipient(ParentGone())
        del root
        ending.wait()
        shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
