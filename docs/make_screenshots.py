"""Pictures of the page of launch/app.py, for docs/app.md and the README.

    python docs/make_screenshots.py --checkpoint=runs/demo

It opens the page in Chromium at the widths of a phone and of a desktop, on clips of the world, with
an index of its test clips. It needs the extras app and browser, and a chromium on the path.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx
from PIL import Image
from playwright.sync_api import Locator, Page, sync_playwright

import vljepa_jax
from vljepa_jax.data.datasets import find_dataset

ROOT = Path(__file__).resolve().parents[1]
IMAGES = ROOT / "docs" / "images"
_SIZES = {"": (1100, 800), "_phone": (390, 844)}  # the ends of names, and pixels
_COLOURS = 128  # of a picture: a page needs few, and the files are small
_SLOW = 600_000  # milliseconds
_CLIPS = 40  # in the index
_LINES = 8  # said of a stream


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", required=True, help="a run on the world")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, socket.socket() as probe:
        folder = Path(name)
        _write_media(options.checkpoint, folder)
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        command = [sys.executable, "launch/app.py", f"--checkpoint={options.checkpoint}"]
        command += [f"--index={folder}/index", f"--videos={folder}/clips", f"--port={port}"]
        server = subprocess.Popen([*command, "--num_workers=0"], cwd=ROOT)
        try:
            _draw(f"http://127.0.0.1:{port}", folder)
        finally:
            server.send_signal(signal.SIGINT)
            server.wait(timeout=60)


def _write_media(checkpoint: str, folder: Path) -> None:
    world = find_dataset("@world", vljepa_jax.load(checkpoint).history.config.world)
    clips, streams = world.media("test"), world.media("streams")
    (folder / "clips").mkdir()
    for index in range(_CLIPS):
        (folder / "clips" / f"clip{index:02d}.mp4").write_bytes(clips[index].media[0].data)
    (folder / "stream.mp4").write_bytes(streams[0].media[0].data)


def _draw(address: str, folder: Path) -> None:
    while True:
        try:
            httpx.get(address).raise_for_status()
            break
        except httpx.HTTPError:
            time.sleep(1)
    with sync_playwright() as playwright:
        path = shutil.which("chromium")
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        for end, (width, height) in _SIZES.items():
            for name, fill in (("ask", _ask), ("search", _search), ("watch", _watch)):
                page = browser.new_page(viewport={"width": width, "height": height})
                page.set_default_timeout(_SLOW)
                page.goto(address)
                page.get_by_role("tab", name=name.capitalize()).click()
                fill(page, page.get_by_role("tabpanel").filter(visible=True), folder)
                page.wait_for_timeout(500)
                _save(page, IMAGES / f"app_{name}{end}.png")
                page.close()
        browser.close()


def _ask(page: Page, panel: Locator, folder: Path) -> None:
    panel.locator("input[type=file]").first.set_input_files(folder / "clips" / "clip01.mp4")
    panel.get_by_text("clip01.mp4: the").wait_for()
    panel.get_by_label("Question").fill("What is the bee doing?")
    panel.get_by_label("Candidates").fill("bounces\nshrinks\nspins\nmoves left")
    panel.get_by_role("button", name="Ask").click()
    panel.locator(".bar").first.wait_for()


def _search(page: Page, panel: Locator, folder: Path) -> None:
    if not (folder / "index" / "index.json").exists():
        panel.get_by_text("The index").click()
        panel.get_by_role("button", name="Make or update").click()
        panel.get_by_text(f"{_CLIPS} embeddings of").wait_for()
        panel.get_by_text("The index").click()
    panel.get_by_label("Text", exact=True).fill("a yellow square that moves left")
    panel.get_by_role("button", name="Search", exact=True).click()
    panel.get_by_text("hits for").wait_for()
    panel.locator(".grid-wrap button").first.click()
    panel.locator("video.played").wait_for()
    page.wait_for_function("[...document.images].every(picture => picture.complete)")


def _watch(page: Page, panel: Locator, folder: Path) -> None:
    panel.locator("input[type=file]").first.set_input_files(folder / "stream.mp4")
    panel.get_by_text("stream.mp4").wait_for()
    panel.get_by_label("As fast as it can be").check()
    panel.get_by_role("button", name="Watch").click()
    panel.locator(".lines li").nth(_LINES - 1).wait_for()
    if page.viewport_size["width"] < 600:
        panel.locator("img.timeline").scroll_into_view_if_needed()


def _save(page: Page, path: Path) -> None:
    page.screenshot(path=path)
    with Image.open(path) as picture:
        picture.convert("RGB").quantize(_COLOURS).save(path, optimize=True)


if __name__ == "__main__":
    main()
