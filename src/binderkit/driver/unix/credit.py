"""Budget of one-way calls between two processes. Pure.

Owns: how many bytes of one-way calls are on their way to a peer (sender side), and
how many of a peer's wait here (receiver side). Half of Binder's mapping, 520 192 bytes, may
be outstanding; beyond it the sender gets an error and nothing is dropped.
Totals only grow and are compared as 64-bit numbers, so a lost update corrects itself with the next.
"""

from __future__ import annotations

from binderkit import limits
from binderkit.errors import ProtocolError

REPORT_EVERY = limits.ONEWAY_BUDGET // 4
"""Bytes executed after which the receiver reports without being asked."""


class Sending:
    """What we sent to a peer and it has not executed yet."""

    __slots__ = ("acknowledged", "sent")

    def __init__(self) -> None:
        self.sent = 0
        self.acknowledged = 0

    def fits(self, size: int) -> bool:
        """Whether ``size`` more bytes stay within the budget, as far as we know."""
        return self.sent - self.acknowledged + size <= limits.ONEWAY_BUDGET

    def acknowledge(self, total: int) -> None:
        """The peer has executed ``total`` bytes since the beginning.

        Raises:
            ProtocolError: more than was sent.
        """
        if total > self.sent:
            raise ProtocolError(f"the peer says it executed {total} bytes of one-way calls, {self.sent} were sent")
        self.acknowledged = max(self.acknowledged, total)


class Receiving:
    """What a peer sent and we have not executed yet."""

    __slots__ = ("executed", "received", "reported")

    def __init__(self) -> None:
        self.received = 0
        self.executed = 0
        self.reported = 0

    def receive(self, size: int) -> None:
        """Count a one-way call that was read.

        Raises:
            ProtocolError: the peer ignores its budget.
        """
        self.received += size
        if self.received - self.executed > limits.ONEWAY_BUDGET:
            raise ProtocolError(
                f"{self.received - self.executed} bytes of one-way calls wait here, "
                f"the budget is {limits.ONEWAY_BUDGET}"
            )

    def execute(self, size: int) -> bool:
        """Count a one-way call that was executed; return whether to report now."""
        self.executed += size
        return self.executed - self.reported >= REPORT_EVERY

    def report(self) -> int:
        """Return the total to report."""
        self.reported = self.executed
        return self.executed
