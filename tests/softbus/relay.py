"""A cable with loss and delay: two AF_PACKET sockets and a queue, run as a process in the switch's namespace.

    python relay.py LEFT RIGHT LOSS DELAY SEED

Kernels without netem (NET_SCH_NETEM) have nothing of their own for this. Prints "ready" when it carries frames.
"""

from __future__ import annotations

import heapq
import select
import socket
import sys
import time
from random import Random

SOL_PACKET, PACKET_ADD_MEMBERSHIP, PACKET_MR_PROMISC, PACKET_IGNORE_OUTGOING = 263, 1, 1, 23
ETH_P_ALL = 3


def port(name: str) -> socket.socket:
    opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    opened.bind((name, 0))
    index = socket.if_nametoindex(name)
    membership = index.to_bytes(4, sys.byteorder) + PACKET_MR_PROMISC.to_bytes(2, sys.byteorder) + bytes(10)
    opened.setsockopt(SOL_PACKET, PACKET_ADD_MEMBERSHIP, membership)
    opened.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
    opened.setblocking(False)
    return opened


def main() -> None:
    left, right = port(sys.argv[1]), port(sys.argv[2])
    loss, delay, random = float(sys.argv[3]), float(sys.argv[4]), Random(int(sys.argv[5]))
    other = {left: right, right: left}
    queue: list[tuple[float, int, socket.socket, bytes]] = []
    number = 0
    print("ready", flush=True)
    while True:
        wait = max(0.0, queue[0][0] - time.monotonic()) if queue else None
        for source in select.select([left, right], [], [], wait)[0]:
            frame = source.recv(65536)
            if random.random() >= loss:
                number += 1
                heapq.heappush(queue, (time.monotonic() + delay, number, other[source], frame))
        while queue and queue[0][0] <= time.monotonic():
            _, _, target, frame = heapq.heappop(queue)
            try:
                target.send(frame)
            except OSError:
                continue  # the other end is down or full: a frame is lost, as on a cable


if __name__ == "__main__":
    main()
