"""The page's layout, and what its buttons call. The one module that knows Gradio."""

from __future__ import annotations

import contextlib
import html
from collections.abc import Iterator
from typing import Any

import gradio as gr
from PIL import Image

from vljepa_jax.app import pictures, search, visitors
from vljepa_jax.app.ask import ask
from vljepa_jax.app.search import Library, Progressed
from vljepa_jax.app.visitors import Refused, Upload, Uploads, labels_of, text_of
from vljepa_jax.app.watch import BrowserCamera, Watcher, Watchers, Wish, address_source
from vljepa_jax.data.kinds import MEDIA_EXTENSIONS
from vljepa_jax.data.live_source import LiveSource
from vljepa_jax.data.records import ClipError
from vljepa_jax.inference.embedder import Embedder
from vljepa_jax.inference.search.hits import Hit
from vljepa_jax.inference.streams.timeline import draw_timeline

# What visitors wait in line for: the model, decoding, and streams that are followed.
_MODEL = {"concurrency_id": "model", "concurrency_limit": 1}
_READING = {"concurrency_id": "reading", "concurrency_limit": 2}
_WATCHING = {"concurrency_id": "watching", "concurrency_limit": 4}
_AT_ONCE = {"queue": False, "show_progress": "hidden"}
_LOOK_SECONDS, _DRAW_SECONDS = 0.5, 2.0  # between two looks at a stream, and two pictures
_TIMELINE_INCHES, _SECONDS_DRAWN = 5.0, 60.0  # the latest, to be read on a phone
_MEDIA_TYPES = ["video", "image", *sorted(MEDIA_EXTENSIONS)]
_TITLE = "That did not work"
_CAMERA, _FILE, _ADDRESS = "Camera", "File", "Address"
_NO_WRITER = (
    "This model writes no texts: it has no Y-Decoder. Candidates, labels and search work; "
    "docs/decoding.md tells how to train one."
)
# Fonts of the system: Gradio's own are fetched from elsewhere.
THEME = gr.themes.Base(
    primary_hue="blue",
    font=["system-ui", "sans-serif"],
    font_mono=["ui-monospace", "monospace"],
)


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    """Turns what a visitor can mend into a message."""
    try:
        yield
    except visitors.EXPECTED as error:
        text = html.escape(visitors.message(error))
        raise gr.Error(text, title=_TITLE, print_exception=False) from error


def build(model: Embedder, index: Library, uploads: Uploads) -> gr.Blocks:
    """The page, to be launched.

    Args:
        model: for several threads (``SharedModel``).
        index: searched and updated.
        uploads: where Gradio writes what visitors send.
    """
    watchers = Watchers()
    with gr.Blocks(title="VL-JEPA", analytics_enabled=False) as page:
        card = model.card
        gr.Markdown(f"# {html.escape(str(card['kind']))}\n{html.escape(str(card['name']))}")
        if model.text_decoder is None:
            gr.HTML(pictures.note(_NO_WRITER))
        with gr.Tab("Ask"):
            _ask_tab(model, uploads)
        with gr.Tab("Search"):
            _search_tab(model, index, uploads)
        with gr.Tab("Watch"):
            _watch_tab(model, uploads, watchers)

        def closed(request: gr.Request) -> None:
            watchers.stop(request.session_hash)

        page.unload(closed)
    return page


def _clip_input(model: Embedder, uploads: Uploads, what: str) -> gr.State:
    """Widgets that take a clip or a picture; the state has it as an ``Upload``."""
    clip = gr.State()
    drop = gr.File(label=what, file_types=_MEDIA_TYPES, height=140)
    with gr.Accordion("Record with the camera", open=False):
        recorded = gr.Video(
            label="A clip",
            sources=["webcam"],
            include_audio=True,  # else Gradio starts the program ffmpeg to take it out
            webcam_options=gr.WebcamOptions(mirror=False),
        )
        photo = gr.Image(
            label="A picture",
            sources=["webcam"],
            type="filepath",
            webcam_options=gr.WebcamOptions(mirror=False),
        )
    seen = gr.HTML()

    def take(path: str | None) -> tuple[Any, Any, None]:
        """Empties the widget in any case: the file is gone, and the next one can be dropped."""
        if path is None:
            return gr.skip(), gr.skip(), None
        try:
            upload = uploads.read(path, model.video)
        except visitors.EXPECTED as error:  # as ``_explained`` tells, but an error has no outputs
            gr.Warning(html.escape(visitors.message(error)), title=_TITLE)
            return gr.skip(), gr.skip(), None
        title = f"{upload.name}: the {len(upload.clip)} frames that the model sees"
        return upload, pictures.frames(title, upload.clip), None

    for widget, event in (
        (drop, drop.upload),
        (recorded, recorded.stop_recording),
        (photo, photo.input),
    ):
        event(take, widget, [clip, seen, widget], api_name=False, **_READING)
    return clip


def _ask_tab(model: Embedder, uploads: Uploads) -> None:
    writes = model.text_decoder is not None
    with gr.Row():
        with gr.Column():
            clip = _clip_input(model, uploads, "A clip or a picture")
        with gr.Column():
            question = gr.Textbox(
                label="Question", placeholder="What is the animal doing? (may be empty)"
            )
            candidates = gr.Textbox(
                label="Candidates or labels, one a line",
                info="Wordings of one with | between them: a dog | a puppy",
                lines=4,
            )
            write = gr.Checkbox(
                label="Write a text", value=writes, interactive=writes, elem_id="write"
            )
            button = gr.Button("Ask", variant="primary")
            said = gr.HTML()

    def answer(upload: Upload | None, asked: str, choices: str, text: bool) -> str:
        with _explained():
            if upload is None:
                raise Refused("drop or record a clip or a picture first")
            given = ask(
                model,
                upload.clip,
                text_of("the question", asked),
                labels_of("candidates", choices),
                write=bool(text) and writes,
            )
        return pictures.answer(given)

    gr.on(
        [button.click, question.submit],
        answer,
        [clip, question, candidates, write],
        said,
        api_name=False,
        **_MODEL,
    )


def _search_tab(model: Embedder, index: Library, uploads: Uploads) -> None:
    found = gr.State([])
    with gr.Row():
        with gr.Column():
            text = gr.Textbox(label="Text", placeholder="a dog that spins")
            with gr.Accordion("Search by a clip or a picture", open=False):
                example = _clip_input(model, uploads, "An example, in place of the text")
                forget = gr.Button("Search by the text again", size="sm")
            with gr.Accordion("Filters", open=False):
                top = gr.Slider(1, 50, 10, step=1, label="Hits at most")
                threshold = gr.Slider(-1.0, 1.0, -1.0, step=0.01, label="Least score")
                names = gr.Textbox(label="Names of clips", placeholder="cam1, or */cam1/*.mp4")
                once = gr.Checkbox(label="Only the best window of each clip")
                everything = gr.Checkbox(label="Show what is no match, too")
            button = gr.Button("Search", variant="primary")
            with gr.Accordion("The index", open=False):
                described = gr.HTML(pictures.note(index.described()))
                if index.videos:
                    window = gr.Number(0, label="Seconds of a window, of a new index; 0: whole")
                    stride = gr.Number(0, label="Seconds from one window to the next")
                    update = gr.Button("Make or update it", size="sm")
        with gr.Column():
            told = gr.HTML()
            player = gr.HTML()
            gallery = gr.Gallery(
                label="Hits: choose one to play it",
                columns=2,
                height="auto",
                allow_preview=False,
                object_fit="contain",
                buttons=[],
            )

    def look_up(
        wanted: str,
        like: Upload | None,
        most: int,
        least: float,
        pattern: str,
        each_once: bool,
        all_hits: bool,
    ) -> tuple[list[Hit], list[tuple[Image.Image, str]], str, str]:
        with _explained():
            hits = index.find(
                text_of("the text", wanted),
                None if like is None else like.clip,
                top=int(most),
                threshold=float(least) if least > -1 else None,
                names=text_of("the pattern", pattern),
                each_once=bool(each_once),
                all_hits=bool(all_hits),
            )
        what = f"like {like.name}" if like else f"for '{wanted.strip()}'"
        title = f"{len(hits)} hits {what}" if hits else f"No match {what}."
        return hits, [_shown_hit(hit) for hit in hits], pictures.note(title), ""

    def play(hits: list[Hit], chosen: gr.SelectData) -> str:
        with _explained():
            if chosen.index >= len(hits):
                raise Refused("search again: these hits are of an earlier search")
            hit = hits[chosen.index]
            return pictures.video(search.title(hit), search.played(hit))

    def make(seconds: float, step: float) -> Iterator[str]:
        with _explained():
            for news in index.update(float(seconds or 0), float(step or seconds or 0)):
                if isinstance(news, Progressed):
                    yield pictures.progress(news.step, news.done, news.total)
                else:
                    yield pictures.note(index.described()) + pictures.collection(news)

    gr.on(
        [button.click, text.submit],
        look_up,
        [text, example, top, threshold, names, once, everything],
        [found, gallery, told, player],
        api_name=False,
        **_MODEL,
    )
    gallery.select(play, found, player, api_name=False, **_READING)
    forget.click(lambda: None, None, example, api_name=False, **_AT_ONCE)
    if index.videos:
        update.click(
            make,
            [window, stride],
            described,
            show_progress="hidden",
            api_name=False,
            concurrency_id="index",
            concurrency_limit=1,
        )


def _shown_hit(hit: Hit) -> tuple[Image.Image, str]:
    """A hit's picture, grey where it can no longer be read, and what is written below."""
    title = search.title(hit)
    try:
        return search.picture(hit), title
    except ClipError as error:
        return Image.new("RGB", (480, 160), "grey"), f"{title}: {visitors.message(error)}"


def _watch_tab(model: Embedder, uploads: Uploads, watchers: Watchers) -> None:
    writes = model.text_decoder is not None
    with gr.Row():
        with gr.Column():
            kind = gr.Radio([_CAMERA, _FILE, _ADDRESS], value=_FILE, label="Source")
            camera = gr.Image(
                label="Camera: start it, then Watch",
                sources=["webcam"],
                streaming=True,
                type="pil",
                visible=False,
                webcam_options=gr.WebcamOptions(mirror=False),
            )
            file = gr.File(label="A video", file_types=_MEDIA_TYPES, height=140)
            fast = gr.Checkbox(label="As fast as it can be", value=False)
            address = gr.Textbox(
                label="Address", placeholder="rtsp://camera.local/live", visible=False
            )
            query = gr.Textbox(label="Question", placeholder="(a description, if empty)")
            labels = gr.Textbox(
                label="Labels to monitor, one a line",
                info="Wordings and a threshold of one: a dog | a puppy >= 0.4",
                lines=3,
            )
            least = gr.Slider(
                -1.0,
                1.0,
                -1.0,
                step=0.01,
                label="Least score of the other labels",
                info="-1: what the calibration says, or else the best label always holds",
            )
            texts = gr.Textbox(
                label="Texts to choose from, one a line",
                info="In place of the Y-Decoder's" if writes else "This model writes none itself",
                lines=3,
                visible=not writes,
            )
            rate = gr.Slider(0.05, 2.0, 0.35, step=0.05, label="Texts a second that are wanted")
            with gr.Row():
                start = gr.Button("Watch", variant="primary", min_width=120)
                stop = gr.Button("Stop", min_width=120)
        with gr.Column():
            status = gr.HTML()
            timeline = gr.HTML()
            lines = gr.HTML()

    def choose(chosen: str) -> list[Any]:
        shows = (chosen == _CAMERA, chosen == _FILE, chosen == _FILE, chosen == _ADDRESS)
        return [gr.update(visible=visible) for visible in shows]

    def push(frame: Image.Image | None, request: gr.Request) -> None:
        watcher = watchers.of(request.session_hash)
        if watcher is not None and frame is not None:
            watcher.push(frame)

    def watch(
        chosen: str,
        path: str | None,
        as_fast: bool,
        where: str,
        asked: str,
        monitored: str,
        floor: float,
        choices: str,
        wanted: float,
        request: gr.Request,
    ) -> Iterator[tuple[Any, ...]]:
        with _explained():
            source: LiveSource | BrowserCamera
            if chosen == _CAMERA:
                source = BrowserCamera()
            elif chosen == _ADDRESS:
                source = address_source(where)
            elif path is None:
                raise Refused("drop a video first")
            else:
                source = LiveSource("file", path)
            wish = Wish(
                text_of("the question", asked),
                [" | ".join(group) for group in labels_of("labels", monitored)],
                float(floor) if floor > -1 else None,
                [" | ".join(group) for group in labels_of("texts", choices)],
                float(wanted),
                fast=bool(as_fast) and chosen == _FILE,
            )
            watcher = Watcher(model, source, wish)
            watchers.start(request.session_hash, watcher)
            try:
                for look in _looks(watcher):
                    yield *look, gr.skip()
            finally:
                watcher.stop()
                watchers.forget(request.session_hash, watcher)
                if chosen == _FILE:
                    uploads.done(path)
            if chosen == _FILE:  # it is gone
                yield *[gr.skip()] * 3, None
            if watcher.error is not None:
                raise watcher.error

    kind.change(choose, kind, [camera, file, fast, address], api_name=False, **_AT_ONCE)
    camera.stream(
        push,
        camera,
        None,
        stream_every=0.2,
        time_limit=None,
        show_progress="hidden",
        concurrency_limit=None,
        api_name=False,
    )
    start.click(
        watch,
        [kind, file, fast, address, query, labels, least, texts, rate],
        [status, timeline, lines, file],
        show_progress="hidden",
        api_name=False,
        **_WATCHING,
    )

    def end(request: gr.Request) -> None:
        watchers.stop(request.session_hash)

    stop.click(end, None, None, api_name=False, **_AT_ONCE)


def _looks(watcher: Watcher) -> Iterator[tuple[str, Any, str]]:
    """Status, picture and lines of a stream, until it is over."""
    every = round(_DRAW_SECONDS / _LOOK_SECONDS)
    over, look = False, 0
    while not over:
        over = watcher.wait(_LOOK_SECONDS)
        said, notices, picture = watcher.events.told()
        parts = [pictures.status(watcher.events.status, watcher.events.summary)]
        parts += [pictures.warning(text) for text in notices]
        drawn: Any = gr.skip()
        if len(picture.times) > 1 and (over or look % every == 0):
            first, last = picture.times[[0, -1]]
            latest = picture.between(max(first, last - _SECONDS_DRAWN), last)
            drawn = pictures.figure(draw_timeline(latest, _TIMELINE_INCHES), "timeline")
        look += 1
        yield "".join(parts), drawn, pictures.lines(said)
