"""A device of its own process, to be killed and cut off: it listens for sessions and offers raw data.

``python -m tests.softbus.stream_process``: reads a JSON object {own, trusted, ca, certificate, key, host} from its
standard input, prints its address as JSON, echoes every packet of bytes, and offers ``offer`` bytes of raw data to
``trusted``, whose ticket it sends as the first packet of each session. Ends with its standard input.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from binderkit.softbus.bulk import BulkPort
from binderkit.softbus.bulk_port import StreamPort
from binderkit.softbus.engine import TrustSnapshot
from binderkit.softbus.session_socket import PeerSocketInfo, Socket, SocketListener
from binderkit.softbus.sessions import Sessions


class _Names:
    def udid_of(self, network_id: str) -> str | None:
        return None

    def network_id_of(self, udid: str) -> str:
        return udid


class _Echo(SocketListener):
    def __init__(self, bulk: BulkPort, offer: int) -> None:
        self._bulk, self._offer = bulk, offer

    def on_bind(self, socket: Socket, peer: PeerSocketInfo) -> None:
        socket.send_bytes(self._bulk.put(peer.udid, memoryview(bytes(self._offer))))

    def on_bytes(self, socket: Socket, data: bytes) -> None:
        socket.send_bytes(data)


def main() -> None:
    given = json.loads(sys.stdin.readline())
    trust = TrustSnapshot(
        given["own"],
        frozenset([given["trusted"]]),
        given["ca"].encode(),
        given["certificate"].encode(),
        Path(given["key"]),
    )
    port = StreamPort(trust, lambda _: (), hosts=(given["host"],))
    bulk, sessions = BulkPort(port), Sessions(port, _Names())
    sessions.socket("server").listen(_Echo(bulk, given["offer"]))
    port.start()
    print(json.dumps(port.addresses()), flush=True)
    sys.stdin.read()
    sessions.close()
    bulk.close()
    port.close()


if __name__ == "__main__":
    main()
