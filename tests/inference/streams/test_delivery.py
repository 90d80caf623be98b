"""Events to commands and loopback addresses: handed over, tried again, given up, no wait."""

import base64
import contextlib
import http.server
import json
import shlex
import socket
import sys
import threading
import time

import pytest

from vljepa_jax.inference.streams.delivery import Delivery, DeliveryError

HANGS = object()  # in place of an answer's status


@contextlib.contextmanager
def served(*statuses):
    """A server that answers with these, the last one for good: its address, and what it got."""
    got, left, released = [], list(statuses), threading.Event()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            got.append((self.headers["Content-Type"], json.loads(body)))
            status = left.pop(0) if len(left) > 1 else left[0]
            if status is HANGS:
                released.wait(60)
                return
            self.send_response(status)
            self.send_header("Location", "/elsewhere")
            self.end_headers()

        def do_GET(self):
            raise AssertionError("an event became a GET")

        def log_message(self, *arguments):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/hook?key=secret", got
    finally:
        released.set()
        server.shutdown()
        server.server_close()


def deliver(target, count=1, **settings):
    told = []
    settings = {"pause": 0.01, "last_seconds": 30.0} | settings
    with Delivery(target, told.append, **settings) as delivery:
        for number in range(count):
            delivery.offer({"event": "text", "number": number})
    return delivery.counts(), told


def test_events_are_posted_in_order():
    with served(204) as (address, got):
        counts, told = deliver(address, 5)
    assert [event["number"] for _, event in got] == list(range(5))
    assert {kind for kind, _ in got} == {"application/json"}
    assert counts == {"delivered": 5, "given_up": 0, "lost": 0}
    assert not [text for text in told if "still to be" not in text]


def test_a_server_that_fails_is_tried_again_and_told_of_once():
    with served(500, 503, 429, 200) as (address, got):
        counts, told = deliver(address, 2)
    assert [event["number"] for _, event in got] == [0, 0, 0, 0, 1]
    assert counts == {"delivered": 2, "given_up": 0, "lost": 0}
    failing = [text for text in told if "still to be" not in text]
    assert "answers 500" in failing[0]
    assert "takes events again" in failing[1]
    assert len(failing) == 2
    assert "secret" not in "".join(told)


@pytest.mark.parametrize("status", [404, 302])
def test_an_answer_that_will_not_change_is_not_tried_again(status):
    with served(status) as (address, got):
        counts, told = deliver(address)
    assert len(got) == 1
    assert counts == {"delivered": 0, "given_up": 1, "lost": 0}
    assert any(f"answers {status}" in text and "given up" in text for text in told)


def test_a_server_that_hangs_holds_up_nobody_and_the_oldest_are_lost():
    with served(HANGS) as (address, _):
        told = []
        with Delivery(address, told.append, timeout=30.0, waiting=3, last_seconds=0.1) as delivery:
            while delivery._queue or not delivery._busy:  # until the first is on its way
                if not delivery._busy and not delivery._queue:
                    delivery.offer({"number": 0})
                time.sleep(0.01)
            began = time.monotonic()
            for number in range(1, 10):
                delivery.offer({"number": number})
            assert time.monotonic() - began < 10  # not the server's time
            assert [json.loads(event)["number"] for event in delivery._queue] == [7, 8, 9]
        assert delivery.counts() == {"delivered": 0, "given_up": 4, "lost": 6}
        assert sum("the oldest are lost" in text for text in told) == 1


def test_no_answer_in_time_is_a_failure():
    with served(HANGS, 200) as (address, got):
        counts, told = deliver(address, timeout=0.2)
    assert counts["delivered"] == 1
    assert len(got) == 2
    assert any("gives no answer in 0.2 s" in text or "timed out" in text for text in told)


def test_an_address_that_nobody_or_nonsense_answers_is_given_up():
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    counts, told = deliver(f"http://127.0.0.1:{port}")
    assert counts == {"delivered": 0, "given_up": 1, "lost": 0}
    assert any("cannot be reached" in text for text in told)
    assert any("given up" in text for text in told)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def rubbish():
            for _ in range(5):
                connection, _ = server.accept()
                connection.recv(65536)
                connection.sendall(b"\x00\xffnot http\r\n\r\n")
                connection.close()

        threading.Thread(target=rubbish, daemon=True).start()
        counts, told = deliver(f"http://127.0.0.1:{server.getsockname()[1]}")
    assert counts == {"delivered": 0, "given_up": 1, "lost": 0}
    assert told


def test_a_command_gets_a_line_of_json(tmp_path):
    output = tmp_path / "two words.jsonl"
    counts, _ = deliver(f"tee -a '{output}'", 3)
    events = [json.loads(line) for line in output.read_text().splitlines()]
    assert [event["number"] for event in events] == [0, 1, 2]
    assert counts == {"delivered": 3, "given_up": 0, "lost": 0}


def test_a_command_that_fails_is_given_up():
    counts, told = deliver("false")
    assert counts == {"delivered": 0, "given_up": 1, "lost": 0}
    assert any("false: ended with status 1; given up" in text for text in told)


def test_a_command_that_never_ends_is_killed_with_what_it_started(tmp_path):
    pids = tmp_path / "pids"
    script = f"sleep 600 & echo $! >> '{pids}'; wait"
    told = []
    with Delivery(f'sh -c "{script}"', told.append, timeout=0.3, pause=0.01) as delivery:
        delivery.offer({})
    assert delivery.counts() == {"delivered": 0, "given_up": 1, "lost": 0}
    assert any("did not end in 0.3 s and was killed" in text for text in told)
    started = [int(line) for line in pids.read_text().split()]
    assert len(started) <= 5
    for pid in started:
        assert not _runs(pid)


def _runs(pid):
    """Whether a process is there and no zombie, whoever is to reap it."""
    for _ in range(100):
        try:
            with open(f"/proc/{pid}/stat") as file:
                if file.read().rpartition(")")[2].split()[0] == "Z":
                    return False
        except (FileNotFoundError, ProcessLookupError):
            return False
        time.sleep(0.05)
    return True


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("no-such-command --now", "there is no such command"),
        ("", "there is no such command"),
        ("echo 'a", "is no command"),
        ("ftp://example.org/x", "events go to http:// or https://, or to a command"),
        ("http://", "events go to http://"),
        ("http://[::1", "events go to http://"),
        ("http://here:port/", "events go to http://"),
        ("http://here/caf\u00e9 1", "events go to http://"),
    ],
)
def test_a_target_that_cannot_be_one_is_told_at_once(target, message):
    with pytest.raises(DeliveryError, match=message):
        Delivery(target, print)


def test_a_name_and_a_password_are_sent_and_not_told():
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            asked.append((self.path, self.headers["Host"], self.headers["Authorization"]))
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(404)
            self.end_headers()

        def log_message(self, *arguments):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        host = f"127.0.0.1:{server.server_port}"
        counts, told = deliver(f"http://me:se%40cret@{host}/hook/secret?key=secret")
        server.shutdown()
    login = base64.b64encode(b"me:se@cret").decode()
    assert asked == [("/hook/secret?key=secret", host, f"Basic {login}")]
    assert counts["given_up"] == 1
    assert any(f"--on_event=http://{host}: answers 404" in text for text in told)
    assert "cret" not in "".join(told)


@pytest.mark.parametrize(
    "target",
    [
        "ftp://me:secret@host/x",
        "http://me:se#secret@host/x",
        "no-program --key=secret",
        "a 'secret",
    ],
)
def test_what_nothing_can_be_handed_to_is_refused_without_its_secrets(target):
    with pytest.raises(DeliveryError, match="--on_event=") as refused:
        Delivery(target, print)
    assert "secret" not in str(refused.value)


def test_a_command_may_have_an_address_among_its_arguments(tmp_path):
    path = tmp_path / "said"
    counts, _ = deliver(f"{sys.executable} -c {shlex.quote(TAKES)} {path} https://host/hook")
    assert counts["delivered"] == 1
    assert path.read_text() == "https://host/hook"


TAKES = "import pathlib, sys; sys.stdin.read(); pathlib.Path(sys.argv[1]).write_text(sys.argv[2])"
