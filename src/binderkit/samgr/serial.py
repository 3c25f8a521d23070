"""A queue whose tasks run one at a time, on a thread that exists only while there are some.

Why not an executor: its threads are waited for at the end of the interpreter, and a service that hangs in its start
must not keep its process from ending.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextvars import copy_context
from typing import Any, TypeVar

T = TypeVar("T")


class SerialQueue:
    """Runs tasks in the order in which they were posted.

    Args:
        name: of its thread.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._tasks: deque[tuple[Future[Any], Callable[[], Any]]] = deque()
        self._thread: threading.Thread | None = None

    def post(self, task: Callable[[], T]) -> Future[T]:
        """Queue a task; the future has its result or its exception."""
        future: Future[T] = Future()
        with self._lock:
            self._tasks.append((future, task))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()
        return future

    @property
    def thread(self) -> int | None:
        """Ident of the thread that runs a task now, None when nothing is to be done."""
        thread = self._thread
        return None if thread is None else thread.ident

    def _run(self) -> None:
        while True:
            with self._lock:
                if not self._tasks:
                    self._thread = None
                    return
                future, task = self._tasks.popleft()
            if not future.set_running_or_notify_cancel():
                continue
            try:
                result = copy_context().run(task)
            except BaseException as error:  # handed to who asked; also SystemExit, which would end this thread silently
                future.set_exception(error)
            else:
                future.set_result(result)
