"""Hands events to a command or a web address, in a thread of its own: a stream never waits for it.

What cannot be handed over is tried again with growing pauses, and given up after some attempts;
what waits too long is lost, the oldest first. All of it is counted, and told when it changes.
"""

from __future__ import annotations

import base64
import collections
import contextlib
import http.client
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from typing import Any

from vljepa_jax.data.records import shown
from vljepa_jax.places import without_login

_ATTEMPTS = 5
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0  # seconds before an event is handed over again
_TIMEOUT = 10.0  # seconds that a command or a server may take
_WAITING = 256  # events
_LAST_SECONDS = 15.0  # for what waits when the stream has ended
_TRIED_AGAIN = (408, 425, 429)  # answers that blame the client and may change


class DeliveryError(ValueError):
    """A target that no event can ever be handed to; the message says why."""


class _Failed(Exception):
    """An attempt; the message says why."""


class _Refused(_Failed):
    """One that would fail again."""


class Delivery:
    """A queue of events and the thread that hands them over; a context manager.

    Attributes:
        delivered, given_up, lost: events handed over; that failed at every attempt; that were
            pushed out of the queue.
        notify: told of failures, from the thread.
    """

    def __init__(
        self,
        target: str,
        notify: Callable[[str], None],
        *,
        timeout: float = _TIMEOUT,
        pause: float = _FIRST_PAUSE,
        waiting: int = _WAITING,
        last_seconds: float = _LAST_SECONDS,
    ) -> None:
        """Starts nothing yet.

        Args:
            target: an address, to which events are posted as JSON, with the name and the password
                that it carries by basic authentication; or a command with its arguments as a shell
                splits them, which is run with one event, a line of JSON, on its standard input. No
                shell runs.
            notify: see the attribute.
            timeout: seconds that one attempt may take; a command is killed then, with what it
                started.
            pause: seconds before the second attempt; each further pause is twice as long.
            waiting: events in the queue at most.
            last_seconds: given to what waits when the stream has ended.

        Raises:
            DeliveryError: there is no such command, or the address is none.
        """
        self.delivered = self.given_up = self.lost = 0
        self._hand_over, self._name = _handler(target, timeout)
        self.notify, self._pause, self._last_seconds = notify, pause, last_seconds
        self._queue: collections.deque[str] = collections.deque()
        self._limit = waiting
        self._changed = threading.Condition()
        self._busy = self._failing = self._losing = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="delivery")

    def __enter__(self) -> Delivery:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        """Waits some seconds for what is in the queue, and counts the rest as given up."""
        if waiting := len(self._queue):
            self.notify(f"{self._name}: {waiting} events are still to be handed over")
        with self._changed:
            self._changed.wait_for(lambda: not self._queue and not self._busy, self._last_seconds)
            self.given_up += len(self._queue) + self._busy
            self._stop.set()
            self._changed.notify_all()
        self._thread.join(timeout=1.0)  # it may hang in a server; it is a daemon

    def offer(self, event: Mapping[str, Any]) -> None:
        """Takes an event and returns at once."""
        with self._changed:
            self._queue.append(json.dumps(event) + "\n")
            full = len(self._queue) > self._limit
            if full:
                self._queue.popleft()
                self.lost += 1
            told, self._losing = full and not self._losing, full
            self._changed.notify_all()
        if told:
            self.notify(f"{self._name} is too slow for these events: the oldest are lost")

    def counts(self) -> dict[str, int]:
        return {"delivered": self.delivered, "given_up": self.given_up, "lost": self.lost}

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._queue or self._stop.is_set())
                if self._stop.is_set():
                    return
                event, self._busy = self._queue.popleft(), True
            done = self._deliver(event)
            with self._changed:
                if self._stop.is_set():  # it was counted
                    return
                self.delivered += done
                self.given_up += not done
                self._busy = False
                self._changed.notify_all()

    def _deliver(self, event: str) -> bool:
        pause = self._pause
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                self._hand_over(event)
            except _Failed as error:
                last = isinstance(error, _Refused) or attempt == _ATTEMPTS
                if not self._failing or last:
                    then = "given up" if last else f"trying again in {pause:.0f} s"
                    self.notify(f"{self._name}: {error}; {then}")
                self._failing = True
                if last or self._stop.wait(pause):
                    return False
                pause = min(2 * pause, _LONGEST_PAUSE)
            else:
                if self._failing:
                    self._failing = False
                    self.notify(f"{self._name}: takes events again")
                return True
        return False


def _handler(target: str, timeout: float) -> tuple[Callable[[str], None], str]:
    """What hands an event over, raising ``_Failed``; and the target's name for people."""
    if scheme := re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", target):
        # The host alone: keys are in the path of many, and passwords in arguments of commands.
        host = re.match(r"[^\s/?#]*", without_login(target)[scheme.end() :])[0]
        name = f"--on_event={shown(scheme[0] + host)}"
        if not _is_address(target):
            raise DeliveryError(f"{name}: events go to http:// or https://, or to a command")
        address, headers = _request(target)
        return (lambda event: _post(address, headers, event, timeout)), name
    try:
        words = shlex.split(target)
    except ValueError as error:
        name = f"--on_event={shown(target.split()[0])}"
        raise DeliveryError(f"{name} ...: is no command ({error})") from error
    name = f"--on_event={shown(words[0]) if words else ''}"
    if not words or shutil.which(words[0]) is None:
        raise DeliveryError(f"{name}: there is no such command")
    return (lambda event: _run(words, event, timeout)), name


def _is_address(text: str) -> bool:
    """Whether HTTP can be spoken with it: written in ASCII, a host, and a port if there is one."""
    try:
        parts = urllib.parse.urlsplit(text)
        _ = parts.port  # raises where it is no number
    except ValueError:
        return False
    known = parts.scheme in ("http", "https") and bool(parts.hostname)
    return known and text.isascii() and text.isprintable() and " " not in text


def _request(target: str) -> tuple[str, dict[str, str]]:
    """An address without name and password, and the headers that say them and what is sent."""
    parts = urllib.parse.urlsplit(target)
    headers = {"Content-Type": "application/json"}
    login, at, host = parts.netloc.rpartition("@")
    if at:
        name, _, word = map(urllib.parse.unquote_to_bytes, login.partition(":"))
        headers["Authorization"] = f"Basic {base64.b64encode(name + b':' + word).decode()}"
    return parts._replace(netloc=host).geturl(), headers


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirected POST would become a GET without the event."""

    def redirect_request(self, *arguments: Any) -> None:
        return None


_OPENER = urllib.request.build_opener(_NoRedirect)


def _post(address: str, headers: dict[str, str], event: str, timeout: float) -> None:
    request = urllib.request.Request(address, event.encode(), headers, method="POST")
    try:
        with _OPENER.open(request, timeout=timeout):
            pass
    except urllib.error.HTTPError as error:
        error.close()
        kind = _Failed if error.code >= 500 or error.code in _TRIED_AGAIN else _Refused
        raise kind(f"answers {error.code} {error.reason}") from error
    except urllib.error.URLError as error:
        raise _Failed(f"cannot be reached ({error.reason})") from error
    except TimeoutError as error:
        raise _Failed(f"gives no answer in {timeout:g} s") from error
    except (OSError, http.client.HTTPException) as error:
        raise _Failed(f"answers nothing that is HTTP ({error!r})") from error


def _run(words: list[str], event: str, timeout: float) -> None:
    try:
        process = subprocess.Popen(
            words,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # so that what it starts can be ended with it
        )
    except OSError as error:
        raise _Failed(f"cannot be run ({error.strerror})") from error
    try:
        process.communicate(event.encode(), timeout=timeout)
    except subprocess.TimeoutExpired as error:
        with contextlib.suppress(ProcessLookupError):  # it has just ended
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise _Failed(f"did not end in {timeout:g} s and was killed") from error
    if process.returncode:
        raise _Failed(f"ended with status {process.returncode}")
