"""A hostile device in a process of its own: a bare session without rules, driven by lines. See device_main.py.

Reads: "ask KEY" (a request under any name; says ["asked", replies]), "live UDID" (announces that device),
"links" (says ["links", how many other devices it is connected to]).
"""

from __future__ import annotations

import json
import sys
from typing import Any

from tests.softbus.device_main import say, settings_of, trust_of
from tests.softbus.test_zenoh_engine import ask, open_raw


def main() -> None:
    told = json.loads(sys.argv[1])
    session = open_raw(trust_of(told), settings_of(told))
    tokens: list[Any] = []
    say("ready")
    for line in sys.stdin:
        command, *words = line.split()
        if command == "ask":
            say("asked", len(ask(session, words[0], b"hostile")))
        elif command == "live":
            tokens.append(session.liveliness().declare_token(f"sb/live/{words[0]}/node/ab/{'0' * 16}/1/61/62"))
            say("announced", words[0])
        elif command == "links":
            say("links", len(list(session.info.links())))
    session.close()


if __name__ == "__main__":
    main()
