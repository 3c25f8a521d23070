"""model.py: what the records can tell of themselves."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from binderkit.ability.model import Ability, Client, Connection, ConnectionState, Process
from binderkit.ability.want import ElementName, Want

clients = st.builds(Client, st.integers(0, 2), st.integers(0, 1), st.integers(1, 3), st.sampled_from(["", "d"]))


@given(clients, clients)
def test_the_same_caller_has_the_same_token_or_is_the_same_process(one: Client, other: Client) -> None:
    expected = one.token == other.token if one.token else (one.uid, one.pid, 0) == (other.uid, other.pid, other.token)
    assert one.same(other) is expected
    assert one.same(other) is other.same(one)


def test_connections_are_found_by_state_oldest_first() -> None:
    want = Want("a.b", "S")
    ability = Ability(1, ElementName("a.b", "S"), Process("a.b"), want, None)
    states = [ConnectionState.CONNECTED, ConnectionState.CONNECTING, ConnectionState.CONNECTED]
    ability.connections += [
        Connection(Client(0, 0, 1), number, ability, want, number, state) for number, state in enumerate(states)
    ]
    assert [known.callback for known in ability.having(ConnectionState.CONNECTED)] == [0, 2]
