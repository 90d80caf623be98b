"""Run by ``make test-install`` with the Python of an environment that a wheel was installed into.

Tries the program from an empty directory, where nothing but the wheel can serve it.
"""

import pathlib
import subprocess
import sys
import tempfile
import time

import vljepa_jax
from vljepa_jax.commands import COMMANDS

PACKAGE = pathlib.Path(vljepa_jax.__file__).parent
PROGRAM = pathlib.Path(sys.executable).with_name("vljepa")


def run(*arguments: str, status: int = 0) -> str:
    with tempfile.TemporaryDirectory() as empty:
        began = time.perf_counter()
        done = subprocess.run([PROGRAM, *arguments], cwd=empty, capture_output=True, text=True)
    seconds = time.perf_counter() - began
    print(f"vljepa {' '.join(arguments)}: status {done.returncode}, {seconds:.1f} s", flush=True)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


assert "site-packages" in PACKAGE.parts, f"{PACKAGE} is not installed"
assert run("--version").strip() == vljepa_jax.__version__
run("--help")
assert "no command 'trian' (did you mean 'train'?)" in run("trian", status=1)
for name in COMMANDS:
    assert f"vljepa {name}" in run(name, "--help")
for recipe in ("configs/demo.py", "demo", "eval/world"):  # the last is no recipe of a training
    run("train", f"--config={recipe}", "--summary", status=int(recipe == "eval/world"))
run(
    *("convert", "--config=demo", "--x_encoder=@bundled", "--predictor=@bundled"),
    *("--y_encoder=@bundled", "--output=start"),
)
