"""The engine on Eclipse Zenoh: requests as queries over mutual TLS, presence as liveliness tokens.

Owns: ``ZenohEngine``, the device's only Zenoh session, and its opening anew
when the trust changes. What it is configured to do stands in ``zenoh_config``.

Why like this (each point was measured; reference: softbus-engine):

- Requests come through a queue from which threads of ours take them (``receivers``): that is quicker than a callback,
  which runs on Zenoh's receiving thread and has to hand over. What is seldom (tokens, links, answers to ``post``)
  comes through direct callbacks (``indirect=False``): any other kind costs a thread each and keeps the interpreter
  from ending. They must not block.
- A query's end is read from its *first* reply; consolidation would hold it back.
- Zero replies is how a broken link, a refusal and a missing device all look:
  ``NoAnswer``. An error reply "Timeout" is made by our own side.
- The access-control list cannot change in a session: a new trust is a new session.
- A session that is open when the interpreter ends aborts it: what is still open is closed at exit.
- A session closed while it is connecting leaves links behind: it is given the time to finish.
- A session poisoned by a panic of the engine is replaced.

Rules upheld: those of ``engine``. The source in a key is proven by the list;
keys with wildcards and sources that are not trusted are refused here once more.
"""

from __future__ import annotations

import atexit
import logging
import os
import secrets
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Final

import zenoh

from binderkit import limits
from binderkit.errors import ForkedError, IpcError, ParamValueError
from binderkit.softbus import zenoh_config
from binderkit.softbus.engine import (
    Busy,
    DeviceInfo,
    EngineTimeout,
    Handler,
    Incoming,
    Kind,
    NoAnswer,
    Outcome,
    Presence,
    TrustSnapshot,
    check_request,
)
from binderkit.softbus.presence import PresenceTable
from binderkit.softbus.receivers import Job
from binderkit.softbus.refusals import Refusals
from binderkit.softbus.timers import Timers
from binderkit.softbus.zenoh_config import ZenohSettings
from binderkit.softbus.zenoh_session import OpenSession

__all__ = ["ZenohEngine"]

_log = logging.getLogger("binderkit.softbus")
_BUSY: Final = b"busy"
_TIMEOUT: Final = b"Timeout"
_EXIT_WAIT: Final = 1.0
"""Seconds the end of the interpreter waits for each thread that still executes something."""
_CLOSE_WAIT: Final = 1.0
"""Seconds for closing a session; then it goes on closing beside the next one."""
_WAITING: Final = 64
"""Requests between Zenoh and the receivers; then its thread waits, as it would in a callback."""


class ZenohEngine:
    """One device's engine; see ``engine.Engine``.

    Start it after any fork, and close it: ``with ZenohEngine(...) as engine``.

    Args:
        trust: whom to speak with, and what to prove oneself with.
        settings: where to listen, whom to look for.
        name: for people, at most limits.MAX_DEVICE_NAME characters; device_type: "phone", "tv", "linux" …

    Raises:
        ParamValueError: a name that cannot be one (401).
    """

    def __init__(
        self, trust: TrustSnapshot, settings: ZenohSettings | None = None, *, name: str, device_type: str = "linux"
    ) -> None:
        if not 0 < len(device_type.encode()) <= limits.MAX_DEVICE_NAME or not device_type.isprintable():
            raise ParamValueError(f"{device_type!r} cannot be a device type: use 1 to 64 printable characters")
        self._trust = trust
        self._settings = settings or ZenohSettings()
        self._info = DeviceInfo(
            trust.own, secrets.token_hex(16), secrets.token_hex(8), zenoh_config.check_name(name), device_type
        )
        self._pid = os.getpid()
        self._timers = Timers("binderkit-zenoh")
        # Nothing is logged on Zenoh's threads: a log may block, and they must not.
        self._refusals = Refusals(self._timers)
        self._table = PresenceTable()
        # Guards the table and the order of its events.
        self._table_lock = threading.Lock()
        self._handler: Handler | None = None
        self._presence: Callable[[Presence], None] | None = None
        # One change of the session at a time.
        self._changing = threading.RLock()
        # Guards the session, and the number of requests that use it.
        self._gate = threading.Condition()
        self._session: zenoh.Session | None = None
        self._token: zenoh.LivelinessToken | None = None
        self._open: OpenSession | None = None
        # Those that are not quite closed, or still execute something.
        self._former: list[OpenSession] = []
        self._number = 0
        self._opened_at = 0.0
        self._using = 0
        self._reopening = False
        self._closed = False

    def __enter__(self) -> ZenohEngine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def udid(self) -> str:
        """This device's UDID."""
        return self._info.udid

    @property
    def info(self) -> DeviceInfo:
        """What this device says of itself."""
        return self._info

    # --- life --------------------------------------------------------------------------------------

    def open(self, handler: Handler, presence: Callable[[Presence], None]) -> None:
        """Join the network; returns at once, who is there is told when they are seen.

        Raises:
            IpcError: the session cannot be opened: no such address, or the certificate or key cannot be read (10).
        """
        self._check_process()
        with self._changing:
            if self._handler is not None:
                raise IpcError("the engine was opened before; make a new one")
            self._handler, self._presence = handler, presence
            _opened.add(self)
            self._open_session()

    def set_trust(self, trust: TrustSnapshot) -> None:
        """Take a new list of trusted devices by opening the session anew.

        Raises:
            ParamValueError: the snapshot is of another device (401).
            IpcError: the new session cannot be opened; the old one is closed all the same, because what it allows is
                no longer wanted (10).
        """
        self._check_process()
        if trust.own != self._info.udid:
            raise ParamValueError(f"the trust of device {trust.own} was given to the engine of {self._info.udid}")
        with self._changing:
            if trust == self._trust and self._session is not None:
                return
            self._trust = trust
            if self._handler is not None and not self._closed:
                self._reopen()

    def set_settings(self, settings: ZenohSettings) -> None:
        """Listen elsewhere, or look for others elsewhere, by opening the session anew.

        Raises:
            IpcError: the new session cannot be opened; the old one is closed all the same (10).
        """
        self._check_process()
        with self._changing:
            if settings == self._settings and self._session is not None:
                return
            self._settings = settings
            if self._handler is not None and not self._closed:
                self._reopen()

    def set_name(self, name: str) -> None:
        """Change this device's name; the others hear CHANGED."""
        self._check_process()
        with self._changing:
            self._info = replace(self._info, name=zenoh_config.check_name(name))
            session, old = self._session, self._token
            if session is None or old is None:
                return
            # The new one first: a device without any token would be gone.
            self._token = session.liveliness().declare_token(zenoh_config.node_token(self._info, self._number))
            old.undeclare()

    def close(self) -> None:
        """Leave the network; requests of others that are executed on its threads are waited for."""
        self._leave_network()
        if os.getpid() == self._pid:
            for former in self._former:
                former.join()

    def _leave_network(self) -> None:
        if os.getpid() != self._pid:
            return  # a forked child: the session is its parent's
        with self._changing:
            with self._gate:
                self._closed = True
                self._gate.notify_all()
                there, self._open, self._session = self._open, None, None
                token, self._token = self._token, None
            if there is not None:
                self._former.append(there)
            for session in self._former:
                session.close(token)
            self._timers.close()
            with self._table_lock:
                self._table.restrict(frozenset())

    def devices(self) -> Mapping[str, DeviceInfo]:
        """Return the trusted devices that are online."""
        return self._table.devices

    # --- requests ----------------------------------------------------------------------------------

    def request(
        self, udid: str, kind: Kind, target: int, header: bytes, payload: bytes, timeout: float, patience: float = 0.0
    ) -> bytes:
        """Send a request and wait for its answer."""
        check_request(target, header, payload, timeout)
        session = self._enter(timeout)
        try:
            replies = session.get(
                zenoh_config.request_key(udid, self._info.udid, kind, target),
                payload=payload,
                attachment=header,
                timeout=timeout,
                target=zenoh.QueryTarget.BEST_MATCHING,
                consolidation=zenoh.ConsolidationMode.NONE,
                congestion_control=zenoh.CongestionControl.BLOCK,
                express=True,
            )
            outcome = _outcome(udid, replies.recv())
        except zenoh.ZError as error:
            raise NoAnswer(f"no reply from device {udid[:8]}…: {error}") from None
        except BaseException as error:
            self._check_panic(error)
            raise
        finally:
            self._leave()
        if isinstance(outcome, bytes):
            return outcome
        raise outcome

    def post(
        self,
        udid: str,
        kind: Kind,
        target: int,
        header: bytes,
        payload: bytes,
        timeout: float,
        done: Callable[[Outcome], None],
    ) -> None:
        """Send a request without waiting."""
        check_request(target, header, payload, timeout)
        try:
            session = self._enter(timeout)
        except NoAnswer as error:
            done(error)
            return
        posted = _Posted(self, udid, done)
        try:
            session.get(
                zenoh_config.request_key(udid, self._info.udid, kind, target),
                zenoh.handlers.Callback(posted.reply, posted.drop, indirect=False),
                payload=payload,
                attachment=header,
                timeout=timeout,
                target=zenoh.QueryTarget.BEST_MATCHING,
                consolidation=zenoh.ConsolidationMode.NONE,
                congestion_control=zenoh.CongestionControl.BLOCK,
                express=kind is not Kind.ONEWAY,
            )
        except zenoh.ZError as error:
            posted.end(NoAnswer(f"the request to device {udid[:8]}… could not be sent: {error}"))
        except BaseException as error:
            self._check_panic(error)
            posted.end(NoAnswer(f"the request to device {udid[:8]}… could not be sent"))
            raise

    def _enter(self, timeout: float) -> zenoh.Session:
        """Return the session for one request, after waiting for it if it is being opened anew.

        Raises:
            NoAnswer: closed, or not open again in time.
            ForkedError: this is a forked child, whose requests would hang for ever.
        """
        self._check_process()
        with self._gate:
            if self._reopening:
                self._gate.wait_for(lambda: not self._reopening, timeout)
            session = self._session
            if session is None or self._reopening:
                raise NoAnswer("this device's engine is not open")
            self._using += 1
            return session

    def _leave(self) -> None:
        with self._gate:
            self._using -= 1
            if self._reopening:
                self._gate.notify_all()

    def _check_process(self) -> None:
        if os.getpid() != self._pid:
            raise ForkedError("the engine belongs to the parent of this process; open one after the fork")

    def _check_panic(self, error: BaseException) -> None:
        """Replace the session after a panic inside the engine: nothing works in it any more."""
        if type(error).__name__ != "PanicException":
            return
        _log.error("the engine panicked; its session is opened anew: %s", error)
        self._timers.after(0, self._replace)
        raise NoAnswer(f"the engine broke down: {error}") from error

    def _replace(self) -> None:
        with self._changing:
            if not self._closed:
                self._reopen()

    # --- the session -------------------------------------------------------------------------------

    def _reopen(self) -> None:
        """Close the session and open one with the present trust; requests wait meanwhile."""
        with self._table_lock:
            # At once: whom we no longer trust is gone, whatever the session still allows.
            self._tell(self._table.restrict(self._trust.trusted))
        with self._gate:
            self._wait_for_age()
            self._reopening = True
            if not self._gate.wait_for(lambda: self._using == 0, limits.RPC_REOPEN_WAIT):
                _log.info("%d requests are cut short by a change of trust; they are sent again", self._using)
        try:
            # The others see it before our own token goes.
            back = self._declare_back()
            with self._table_lock:
                self._table.lose_all(time.monotonic())
                self._watch_table()
            self._close_session(back)
            self._open_session()
        finally:
            with self._gate:
                self._reopening = False
                self._gate.notify_all()

    def _wait_for_age(self) -> None:
        """Under the gate: let a session that is still connecting finish; whom it must not hear is refused already."""
        while self._session is not None and not self._closed:
            remaining = self._opened_at + limits.RPC_SESSION_AGE - time.monotonic()
            if remaining <= 0:
                return
            self._gate.wait(remaining)

    def _declare_back(self) -> object:
        session = self._session
        if session is None:
            return None
        try:
            return session.liveliness().declare_token(zenoh_config.back_token(self._info.udid))
        except zenoh.ZError as error:
            _log.info("the others were not told that this device will be back: %s", error)
            return None

    def _open_session(self) -> None:
        self._number += 1
        identity = zenoh_config.session_id(self._info.udid, self._info.boot, self._number)
        text = zenoh_config.zenoh_config(self._trust, self._settings, identity)
        try:
            session = zenoh.open(zenoh.Config.from_json5(text))
        except zenoh.ZError as error:
            raise IpcError(
                f"the SoftBus session cannot be opened: {error}; check that {', '.join(self._settings.listen)} are "
                "addresses of this device and that its key and certificate can be read"
            ) from error
        try:
            direct = partial(zenoh.handlers.Callback, indirect=False)
            number = self._number
            queryable = session.declare_queryable(
                zenoh_config.requests_of(self._info.udid), zenoh.handlers.FifoChannel(_WAITING), complete=True
            )
            session.info.declare_link_events_listener(direct(self._on_link), history=True)
            session.liveliness().declare_subscriber(
                zenoh_config.LIVE_TOKENS, direct(partial(self._on_token, number)), history=True
            )
            # Last: whoever sees it may call at once.
            self._token = session.liveliness().declare_token(zenoh_config.node_token(self._info, number))
        except BaseException:
            session.close()
            raise
        there = OpenSession(session, queryable, self._on_query)
        with self._gate:
            self._session = session
            self._open = there
            self._opened_at = time.monotonic()
        there.start()

    def _close_session(self, *tokens: object) -> None:
        """Close the session; one with a dead link goes on closing while we go on."""
        with self._gate:
            there, self._open, self._session = self._open, None, None
            token, self._token = self._token, None
        if there is not None:
            there.retire(token, *tokens, wait=_CLOSE_WAIT)
            self._former = [one for one in self._former if not one.is_over] + [there]

    # --- on the receivers' threads -------------------------------------------------------------------

    def _on_query(self, query: zenoh.Query, may_execute: bool) -> Job | None:
        key = str(query.key_expr)
        parsed = zenoh_config.parse_request_key(key)
        handler, attachment, payload = self._handler, query.attachment, query.payload
        if parsed is None or parsed[0] != self._info.udid or parsed[1] not in self._trust.trusted or handler is None:
            self._refusals.note(f"a request under the key {key[:200]}")
            query.drop()
            return None
        if attachment is None or len(attachment) > limits.RPC_HEADER or _size(payload) > limits.RPC_PAYLOAD:
            self._refusals.note(f"a malformed request of device {parsed[1]}")
            query.drop()
            return None
        _, source, kind, target = parsed
        body = b"" if payload is None else payload.to_bytes()
        reply, refuse = partial(_reply, query, key), partial(_refuse, query)
        try:
            return handler(Incoming(source, kind, target, attachment.to_bytes(), body, reply, refuse, may_execute))
        except Exception:
            query.drop()
            raise

    # --- on Zenoh's threads --------------------------------------------------------------------------

    def _report(self, text: str, error: Exception) -> None:
        self._timers.after(0, partial(_log.error, text, exc_info=error))

    def _on_link(self, event: zenoh.LinkEvent) -> None:
        if event.kind != zenoh.SampleKind.PUT:
            return
        name = event.link.auth_identifier
        if name not in self._trust.trusted:
            self._refusals.note(f"the device {name} at {event.link.dst}, which is not trusted; it can do nothing")

    def _on_token(self, number: int, sample: zenoh.Sample) -> None:
        key = str(sample.key_expr)
        put = sample.kind == zenoh.SampleKind.PUT
        with self._table_lock:
            if number != self._number or self._closed:
                return  # of a session that is closed
            leaving = zenoh_config.parse_back_token(key)
            if leaving is not None:
                self._table.back_soon(leaving)
                return
            info = zenoh_config.parse_node_token(key)
            if info is None or info.udid not in self._trust.trusted:
                if info is None or info.udid != self._info.udid:
                    self._refusals.note(f"the token {key[:200]}")
                return
            if put:
                self._tell(self._table.put(key, info))
            else:
                self._tell(self._table.delete(key, info.udid, time.monotonic()))
                self._watch_table()

    # --- presence ------------------------------------------------------------------------------------

    def _tell(self, events: list[Presence]) -> None:
        """Under the table's lock: have events told in order, on one thread."""
        presence = self._presence
        if presence is not None:
            for event in events:
                self._timers.after(0, partial(presence, event))

    def _watch_table(self) -> None:
        deadline = self._table.next_deadline()
        if deadline is not None:
            self._timers.after(max(0.0, deadline - time.monotonic()), self._check_table)

    def _check_table(self) -> None:
        with self._table_lock:
            self._tell(self._table.due(time.monotonic()))
            self._watch_table()


_opened: Final[weakref.WeakSet[ZenohEngine]] = weakref.WeakSet()
"""Engines that may have a session."""


def _close_all() -> None:
    """At the end of the interpreter: no thread of Zenoh's may call into it any more, and none of ours wait in Zenoh."""
    for engine in list(_opened):
        engine._leave_network()
        for session in engine._former:
            session.join(_EXIT_WAIT)


atexit.register(_close_all)


class _Posted:
    """A request that nobody waits for."""

    __slots__ = ("_done", "_engine", "_outcome", "_udid")

    def __init__(self, engine: ZenohEngine, udid: str, done: Callable[[Outcome], None]) -> None:
        self._engine = engine
        self._udid = udid
        self._done: Callable[[Outcome], None] | None = done
        self._outcome: Outcome | None = None

    def reply(self, reply: zenoh.Reply) -> None:
        """The first reply counts."""
        self.end(_outcome(self._udid, reply))

    def drop(self) -> None:
        """The query is over."""
        self.end(NoAnswer(f"no reply from device {self._udid[:8]}…"))

    def end(self, outcome: Outcome) -> None:
        """Report how the request ended, unless that was reported before."""
        done, self._done = self._done, None
        if done is None:
            return
        self._engine._leave()
        try:
            done(outcome)
        except Exception as error:
            self._engine._report("what was to be done after a request failed", error)


def _outcome(udid: str, reply: zenoh.Reply) -> Outcome:
    ok = reply.ok
    if ok is not None:
        return ok.payload.to_bytes()
    why = b"" if reply.err is None else reply.err.payload.to_bytes()
    if why == _BUSY:
        return Busy(f"device {udid[:8]}… has no room for the request")
    if why == _TIMEOUT:
        return EngineTimeout(f"device {udid[:8]}… did not answer in time")
    return NoAnswer(f"device {udid[:8]}… refused the request: {why[:200]!r}")


def _size(payload: zenoh.ZBytes | None) -> int:
    return 0 if payload is None else len(payload)


def _reply(query: zenoh.Query, key: str, answer: bytes) -> None:
    _finish(query, lambda: query.reply(key, answer, express=True))


def _refuse(query: zenoh.Query) -> None:
    _finish(query, lambda: query.reply_err(_BUSY))


def _finish(query: zenoh.Query, send: Callable[[], Any]) -> None:
    try:
        send()
        query.drop()
    except zenoh.ZError as error:
        # The session was closed, or the sender has gone: it asks again if it still wants to know.
        _log.debug("an answer could not be sent: %s", error)
