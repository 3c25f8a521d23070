"""Run a module that ends cleanly when whoever started it ends: ``python -m bench.bound MODULE ARGUMENTS…``.

For daemons: killed they would leave their services behind, asked to end they take them along.
"""

from __future__ import annotations

import os
import signal
import sys

from bench.peers.base import end_with_parent

if __name__ == "__main__":
    end_with_parent(signal.SIGTERM)
    os.execv(sys.executable, [sys.executable, "-m", *sys.argv[1:]])
