"""The page in a browser: each tab does its job, and what cannot be taken is a message.

A model that sees colours alone serves it, on real footage, a photograph, and clips of the world.
"""

import contextlib
import re
import shutil
import urllib.parse

import pytest
from PIL import Image

from tests.helpers.colour_model import ColourModel
from tests.helpers.page_server import served, writing_colour_model
from tests.helpers.sample_media import footage
from tests.helpers.tiny import tiny_world_config
from vljepa_jax.data.datasets import find_dataset

pytestmark = pytest.mark.browser

CAMERA = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
# Gradio's own client says so whenever a stream of events ends.
GRADIO_SAYS = "Method not implemented."
SLOW = 60_000  # milliseconds
WIDTHS = (390, 1200)


@pytest.fixture(scope="module")
def media(tmp_path_factory):
    """Real footage, clips and a stream of the world, a picture, and what is none of these."""
    folder = tmp_path_factory.mktemp("media")
    shutil.copy(footage() / "bikes.mp4", folder / "bikes.mp4")
    world = find_dataset("@world", tiny_world_config())
    for split, name in (("test", "world.mp4"), ("streams", "stream.mp4")):
        (folder / name).write_bytes(world.media(split)[0].media[0].data)
    Image.new("RGB", (64, 48), (0, 255, 0)).save(folder / "green.png")
    (folder / "rubbish.mp4").write_bytes(b"this is no video" * 500)
    (folder / "notes.txt").write_text("no video either")
    return folder


@pytest.fixture(scope="module")
def address(media, tmp_path_factory):
    index = tmp_path_factory.mktemp("index") / "index"
    pytest.importorskip("gradio")
    clips = [str(media / name) for name in ("bikes.mp4", "world.mp4", "green.png", "rubbish.mp4")]
    with served(writing_colour_model(), index=str(index), videos=clips, max_upload=2.0) as (at, _):
        yield at


@pytest.fixture(scope="module")
def chromium():
    sync_api = pytest.importorskip("playwright.sync_api")
    path = shutil.which("chromium")
    assert path, "no chromium on the path: apt-get install chromium"
    with sync_api.sync_playwright() as playwright:
        arguments = ["--no-sandbox", *CAMERA]
        browser = playwright.chromium.launch(executable_path=path, args=arguments)
        yield browser
        browser.close()


@contextlib.contextmanager
def opened(chromium, address, width=1200):
    """A page whose console is clean and which asks nobody but its server."""
    context = chromium.new_context(viewport={"width": width, "height": 1000})
    context.grant_permissions(["camera", "microphone"], origin=address.rstrip("/"))
    page = context.new_page()
    page.set_default_timeout(SLOW)
    said, outside = [], []
    page.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: said.append(f"error: {error}"))
    page.on("request", lambda request: outside.append(request.url) if _leaves(request) else None)
    page.goto(address)
    page.get_by_role("button", name="Ask").wait_for()
    yield page
    assert outside == []
    assert [line for line in said if GRADIO_SAYS not in line] == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    context.close()


def _leaves(request):
    parts = urllib.parse.urlsplit(request.url)
    return parts.scheme not in ("data", "blob") and parts.hostname not in ("127.0.0.1", "localhost")


def tab(page, name):
    page.get_by_role("tab", name=name).click()
    return page.get_by_role("tabpanel").filter(visible=True)


def drop(panel, *paths):
    panel.locator("input[type=file]").first.set_input_files([str(path) for path in paths])


def ask(page, path, candidates, question=""):
    panel = tab(page, "Ask")
    drop(panel, path)
    panel.get_by_text(f"{path.name}: the 2 frames").wait_for()
    panel.get_by_label("Question").fill(question)
    panel.get_by_label("Candidates").fill(candidates)
    panel.get_by_role("button", name="Ask").click()
    panel.locator(".bar").first.wait_for()
    return panel


@pytest.mark.parametrize("width", WIDTHS)
def test_ask_answers_about_clips_and_pictures(chromium, address, media, width):
    with opened(chromium, address, width) as page:
        panel = ask(page, media / "green.png", "red | crimson\ngreen\nblue")
        assert panel.locator(".bar span").first.inner_text() == "green"
        assert panel.locator(".bar b").first.inner_text() == "1.000"
        assert panel.locator(".said").inner_text() == "green"
        assert panel.locator(".frames img").count() == 2
        for name in ("bikes.mp4", "world.mp4"):
            panel = ask(page, media / name, "red\nblue", "which colour?")
            panel.get_by_text("Asked: “which colour?”").wait_for()
            assert panel.locator(".bar").count() == 2


def test_ask_takes_what_the_camera_records(chromium, address):
    with opened(chromium, address) as page:
        panel = tab(page, "Ask")
        panel.get_by_text("Record with the camera").click()
        panel.get_by_role("button", name="Click to Access Webcam").first.click()
        panel.get_by_label("start recording").click()
        page.wait_for_timeout(4000)
        panel.get_by_title("stop recording").click()
        panel.get_by_text("the 2 frames that the model sees").wait_for()


@pytest.mark.parametrize("width", WIDTHS)
def test_search_makes_an_index_finds_and_plays(chromium, address, media, width):
    with opened(chromium, address, width) as page:
        panel = tab(page, "Search")
        panel.get_by_text("The index").click()
        panel.get_by_role("button", name="Make or update").click()
        panel.get_by_text("3 embeddings of 3 clips").wait_for()
        panel.get_by_text("1 could not be read").wait_for()
        panel.get_by_text("rubbish.mp4: ").wait_for()
        panel.get_by_label("Text", exact=True).fill("green")
        panel.get_by_role("button", name="Search", exact=True).click()
        panel.get_by_text("hits for 'green'").wait_for()
        first = panel.locator(".grid-wrap button").first
        assert "green.png" in first.inner_text()
        assert first.locator("img").evaluate("async picture => {await picture.decode(); return 1}")
        first.click()
        playing = panel.locator("video.played")
        playing.wait_for()
        playing.scroll_into_view_if_needed()
        page.wait_for_function("document.querySelector('video.played').currentTime > 0.2")
        assert playing.evaluate("video => video.videoWidth") == 64
        panel.get_by_text("Filters").click()
        panel.get_by_label("Names of clips").fill("bikes")
        panel.get_by_text("Search by a clip or a picture").click()
        drop(panel, media / "world.mp4")
        panel.get_by_text("world.mp4: the 2 frames").wait_for()
        panel.get_by_role("button", name="Search", exact=True).click()
        panel.get_by_text("1 hits like world.mp4").wait_for()


@pytest.mark.parametrize("width", WIDTHS)
def test_watch_follows_a_file(chromium, address, media, width):
    with opened(chromium, address, width) as page:
        panel = tab(page, "Watch")
        drop(panel, media / "stream.mp4")
        panel.get_by_text("stream.mp4").wait_for()
        panel.get_by_label("As fast as it can be").check()
        panel.get_by_label("Labels to monitor").fill("red | crimson\ngreen\nblue")
        panel.get_by_role("button", name="Watch").click()
        panel.get_by_text("of the decodings saved").wait_for()
        panel.get_by_text("Over: ").wait_for()
        assert panel.locator(".lines li").count() >= 1
        assert panel.locator("img.timeline").evaluate("picture => picture.naturalWidth") > 300


def test_watch_follows_the_camera_until_it_is_stopped(chromium, address):
    with opened(chromium, address) as page:
        panel = tab(page, "Watch")
        panel.get_by_text("Camera", exact=True).click()
        panel.get_by_role("button", name="Click to Access Webcam").click()
        panel.get_by_label("capture photo").click()  # so Gradio calls what starts sending
        panel.get_by_role("button", name="Watch").click()
        panel.locator("img.timeline").wait_for()
        panel.get_by_role("button", name="Stop", exact=True).last.click()
        panel.get_by_text("Over: ").wait_for()


def told(page, text):
    """Waits for a message; Gradio lays several in a stack."""
    page.locator(".toast-body").filter(has_text=text).first.wait_for(state="attached")


def test_what_cannot_be_taken_is_a_message(chromium, address, media, tmp_path):
    large = tmp_path / "large.mp4"
    large.write_bytes(b"\0" * 3_000_000)  # where 2 MB are taken
    with opened(chromium, address) as page:
        panel = tab(page, "Ask")
        panel.get_by_role("button", name="Ask").click()
        told(page, "drop or record a clip or a picture first")
        drop(panel, media / "rubbish.mp4")
        told(page, "rubbish.mp4: ")
        drop(panel, media / "notes.txt")
        told(page, "nvalid file type")
        ask(page, media / "green.png", "red\nblue")
        panel.get_by_label("Question").fill("x" * 30_000)
        panel.get_by_role("button", name="Ask").click()
        told(page, "the question has 30,000 characters")
        panel = tab(page, "Watch")
        panel.get_by_text("Address", exact=True).click()
        for address_typed, message in (
            ("rubbish", "'rubbish' is no address of a stream"),
            ("file:///etc/passwd", "'file:///etc/passwd' is no address of a stream"),
        ):
            panel.get_by_placeholder("rtsp:").fill(address_typed)
            panel.get_by_role("button", name="Watch").click()
            told(page, message)
        # One that does not answer is tried again, and can be stopped.
        panel.get_by_placeholder("rtsp:").fill("http://127.0.0.1:9/live")
        panel.get_by_role("button", name="Watch").click()
        panel.get_by_text("source lost").first.wait_for()
        panel.get_by_role("button", name="Stop", exact=True).last.click()
        panel.get_by_text("Over: ").wait_for()
    context = chromium.new_context()
    page = context.new_page()  # not of ``opened``: the browser logs the answer 413
    page.goto(address)
    page.get_by_role("button", name="Ask").wait_for()
    drop(page.get_by_role("tabpanel").filter(visible=True), large)
    told(page, "aximum")
    ask(page, media / "green.png", "red\nblue")  # the page still works
    context.close()


def test_a_closed_tab_ends_what_it_watched(chromium, address, media):
    from vljepa_jax.app import watch

    before = _watching()
    context = chromium.new_context()
    page = context.new_page()
    page.goto(address)
    panel = tab(page, "Watch")
    drop(panel, media / "stream.mp4")
    panel.get_by_text("stream.mp4").wait_for()
    panel.get_by_role("button", name="Watch").click()
    panel.locator(".lines").wait_for(state="attached")
    assert _watching() == before + 1
    context.close()
    other = chromium.new_page()
    for _ in range(int(2 * watch._UNWATCHED)):
        if _watching() == before:
            break
        other.wait_for_timeout(1000)
    other.close()
    assert _watching() == before


def _watching():
    import threading

    return sum(thread.name == "watcher" for thread in threading.enumerate())


def test_ten_uploads_at_once(chromium, address, media):
    """Ten tabs drop the same file at the same time, and all are answered."""
    contexts = [chromium.new_context() for _ in range(10)]
    pages = [context.new_page() for context in contexts]
    for page in pages:
        page.set_default_timeout(SLOW)
        page.goto(address)
    for page in pages:
        page.get_by_role("button", name="Ask").wait_for()
    panels = [page.get_by_role("tabpanel").filter(visible=True) for page in pages]
    for panel in panels:
        drop(panel, media / "bikes.mp4")
    for panel in panels:
        panel.get_by_text("bikes.mp4: the 2 frames").wait_for()
    for context in contexts:
        context.close()


def test_a_model_that_writes_no_texts_says_so(chromium, media):
    with served(ColourModel()) as (address, _), opened(chromium, address) as page:
        page.get_by_text("This model writes no texts").wait_for()
        assert page.get_by_label("Write a text").is_disabled()
        ask(page, media / "green.png", "red\ngreen")
        panel = tab(page, "Search")
        panel.get_by_label("Text", exact=True).fill("green")
        panel.get_by_role("button", name="Search", exact=True).click()
        told(page, "start it with --index=DIR")


def test_the_server_names_no_other_host(address):
    import httpx

    answer = httpx.get(address)
    elsewhere = re.findall(r'(?:src|href|content)="(?:https?:)?//[^"]*', answer.text)
    assert [each for each in elsewhere if address.rstrip("/") not in each] == []
    assert "default-src 'self'" in answer.headers["content-security-policy"]
