"""Programs that tests start on this machine."""

import contextlib
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

PROGRAMS = Path(__file__).parents[1] / "programs"


def run_on_devices(program, *arguments, devices=8):
    """Runs a program of ``tests/programs`` where JAX sees so many CPU devices.

    What it prints is shown if it fails.
    """
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count={devices}"
    command = [sys.executable, PROGRAMS / program, *arguments]
    subprocess.run(command, env=os.environ | {"XLA_FLAGS": flags}, check=True)


def free_port():
    """A port of the loopback interface that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def serving(command, url):
    """A server of this machine: the block begins when it answers, and ends it."""
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while not _answers(url):
            if server.poll() is not None:
                raise RuntimeError(f"{command} has ended: pip install 'vljepa_jax[emulators]'")
            time.sleep(0.1)
        yield
    finally:
        server.kill()
        server.wait()


def _answers(url):
    try:
        urllib.request.urlopen(url)
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True
