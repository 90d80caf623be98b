"""How commands end: in one line with a status; faults of the program keep their traceback."""

import errno
import os
import signal
import subprocess
import sys

import pytest

from vljepa_jax.config.endings import told

COMMAND = """
import os, signal, sys, time
import rich.console
from vljepa_jax.config import command_line, endings

# What a shell has started in the background ignores SIGINT, and hands that on.
signal.signal(signal.SIGINT, signal.default_int_handler)

def main():
    with command_line.explained(ValueError):
        try:
            exec(os.environ["WORK"])
        finally:
            print("tidied up", file=sys.stderr)

command_line.run(main)
"""


def command(tmp_path, work, *arguments, before=(), **settings):
    """``before``: what starts it, in the place of this process."""
    script = tmp_path / "command.py"
    script.write_text(COMMAND)
    settings = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | settings
    return subprocess.Popen(
        [*before, sys.executable, script, *arguments],
        env=os.environ | {"WORK": work},
        text=True,
        **settings,
    )


def ended(process):
    out, errors = process.communicate(timeout=300)
    return process.returncode, out, errors


@pytest.mark.parametrize(
    ("work", "line"),
    [
        (
            "open('/dev/full', 'wb', buffering=0).write(b'x')",
            "error: No space left on device: free some space",
        ),
        ("open('/proc/no/such')", "error: /proc/no/such: No such file or directory"),
        ("open('x' * 300)", "x: File name too long: name a shorter path"),
        ("raise ValueError('mend that')", "error: mend that"),
    ],
)
def test_what_is_wrong_is_one_line(tmp_path, work, line):
    status, _, errors = ended(command(tmp_path, work))
    assert status == 1
    assert line in errors
    assert errors.count("\n") == 2, errors  # the other is printed on the way out


def test_a_fault_of_the_program_keeps_its_traceback(tmp_path):
    status, _, errors = ended(command(tmp_path, "{}['there is no such key']"))
    assert status == 1
    assert "Traceback" in errors
    assert "KeyError: 'there is no such key'" in errors


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_in_one_line_after_tidying_up(tmp_path, number):
    process = command(tmp_path, "print('ready', flush=True); time.sleep(600)")
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    status, _, errors = ended(process)
    assert status == 128 + number
    assert errors == f"tidied up\nerror: ended by {number.name}\n"


def test_a_signal_counts_also_where_python_ignores_exceptions(tmp_path):
    in_vain = """
class Freed:
    def __del__(self):
        print('ready', flush=True)
        time.sleep(600)

Freed()
time.sleep(600)
"""
    process = command(tmp_path, in_vain)
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    status, _, errors = ended(process)
    assert status == 128 + signal.SIGTERM
    assert errors == "tidied up\nerror: ended by SIGTERM\n"


def test_a_signal_has_no_traceback_in_the_log_of_a_library_that_it_passes(tmp_path):
    logged = """
from absl import logging
try:
    print('ready', flush=True)
    time.sleep(600)
except BaseException:
    logging.exception('the save failed')
    raise
"""
    process = command(tmp_path, logged)
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    status, _, errors = ended(process)
    assert status == 128 + signal.SIGTERM
    assert errors == "tidied up\nerror: ended by SIGTERM\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_kills(tmp_path, number):
    stuck = """
try:
    print('ready', flush=True)
    time.sleep(600)
finally:
    print('stuck', flush=True)
    time.sleep(600)
"""
    process = command(tmp_path, stuck)
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    assert process.stdout.readline() == "stuck\n"
    process.send_signal(number)
    assert ended(process)[0] == -number


def test_a_signal_while_python_ends_has_no_traceback(tmp_path):
    ending = """
import atexit
atexit.register(time.sleep, 600)
atexit.register(print, 'ready', flush=True)
"""
    process = command(tmp_path, ending)
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    status, _, errors = ended(process)
    assert status == -signal.SIGTERM
    assert errors == "tidied up\n"


@pytest.mark.parametrize("say", ["print('line')", "rich.console.Console().print('line')"])
def test_a_reader_that_has_gone_is_no_error(tmp_path, say):
    process = command(tmp_path, f"for _ in range(10**5):\n    {say}")
    assert process.stdout.readline() == "line\n"
    process.stdout.close()
    process.stdout = None
    status, _, errors = ended(process)
    assert status == 128 + signal.SIGPIPE
    assert errors.strip() == "tidied up"


def test_an_output_that_is_full_is_told(tmp_path):
    with open("/dev/full", "w") as full:
        status, _, errors = ended(command(tmp_path, "print('line')", stdout=full))
    assert status == 1
    assert errors.startswith("tidied up\nerror: No space left on device: free some space there")
    assert errors.count("\n") == 2


def test_closed_outputs_are_no_error(tmp_path):
    closing = ["sh", "-c", 'exec "$@" >&- 2>&-', "sh"]
    process = command(tmp_path, "print('line')", before=closing)
    assert ended(process)[0] == 0


def test_help_is_no_failure(tmp_path):
    status, out, _ = ended(command(tmp_path, "", "--help"))
    assert status == 0
    assert "Try --helpfull" in out


def test_errors_of_the_system_name_the_file_and_the_mend():
    full = OSError(errno.EDQUOT, "Disk quota exceeded", "runs/a")
    assert told(full).startswith("runs/a: Disk quota exceeded: free some space")
    moved = OSError(errno.EROFS, "Read-only file system", "a", None, "b")
    assert told(moved).startswith("a: b: Read-only file system: name a place that can be")
    assert told(OSError("plain words")) == "plain words"


def test_what_ends_a_command_says_no_password(tmp_path):
    address = "rtsp://me:secret@host/live"
    assert told(ValueError(f"'{address}' is lost")) == "'rtsp://host/live' is lost"
    lost = FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), f"/runs/{address}")
    assert told(lost) == "/runs/rtsp://host/live: No such file or directory"
    with command(tmp_path, "", f"--no_flag={address}") as running:
        output, errors = running.communicate()
    assert running.returncode == 1
    assert "secret" not in output + errors
