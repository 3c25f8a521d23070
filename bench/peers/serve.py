"""The server process of a contender: ``python -m bench.peers.serve NAME FOLDER``. Says "ready" once it listens."""

from __future__ import annotations

import sys
from pathlib import Path

from bench.peers import base, registry

if __name__ == "__main__":
    base.bind_to_parent()
    registry.serve(sys.argv[1], Path(sys.argv[2]))
