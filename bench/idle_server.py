"""The server of the idle-clients case: ``python -m bench.idle_server``, the context object of its runtime directory.

So its clients can find it without a service manager, which would be a second
server with as many clients.
"""

from __future__ import annotations

import resource

import binderkit as bk
from bench.peers.base import bind_to_parent, say_ready
from bench.services import Workbench
from binderkit.driver.unix.rendezvous import serve_context
from binderkit.process import local_node


def raise_descriptor_limit() -> None:
    """Allow this process as many descriptors as the system lets it have: each client needs a few."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def main() -> None:
    """Serve until killed."""
    bind_to_parent()
    raise_descriptor_limit()
    end = serve_context(local_node(), Workbench())
    try:
        say_ready()
        bk.IPCSkeleton.join_work_thread()
    finally:
        end()


if __name__ == "__main__":
    main()
