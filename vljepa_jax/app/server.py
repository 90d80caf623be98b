"""Serves the page, to this machine unless told otherwise, with nothing fetched from elsewhere."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import gradio as gr
from starlette.middleware import Middleware

from vljepa_jax.app.page import THEME
from vljepa_jax.app.pictures import CSS

# A browser that keeps to this fetches from the page's own server alone, whatever Gradio asks for.
_POLICY = (
    "default-src 'self' data: blob:; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
    "style-src 'self' 'unsafe-inline'; connect-src 'self' data: blob:; object-src 'none'; "
    "base-uri 'self'; form-action 'self'; frame-ancestors 'self'"
)
# Of Gradio's template: for previews in social networks, with addresses of its own.
_PREVIEWS = re.compile(rb"<meta\s+(?:property|name)=\"(?:og|twitter):[^>]*?/>\s*")
_SESSIONS = 200  # visitors whose clips are kept; of more, the first ones' are forgotten
_THREADS = 40  # more than all that may run at once

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class LocalOnly:
    """ASGI middleware: the policy with every answer, and pages without others' addresses."""

    def __init__(self, app: Callable[[Scope, Receive, Send], Awaitable[None]]) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun: Message | None = None  # the start of a page, held back until its length is known
        body = b""

        async def passed(message: Message) -> None:
            nonlocal begun, body
            if message["type"] == "http.response.start":
                headers = [*message["headers"], (b"content-security-policy", _POLICY.encode())]
                message = {**message, "headers": headers}
                if dict(headers).get(b"content-type", b"").startswith(b"text/html"):
                    begun = message
                    return
            elif begun is not None and message["type"] == "http.response.body":
                body += message.get("body", b"")
                if message.get("more_body"):
                    return
                body = _PREVIEWS.sub(b"", body)
                kept = [(n, v) for n, v in begun["headers"] if n != b"content-length"]
                length = (b"content-length", str(len(body)).encode())
                await send({**begun, "headers": [*kept, length]})
                message = {**message, "body": body}
            await send(message)

        await self._app(scope, receive, passed)


def serve(page: gr.Blocks, *, host: str, port: int, max_upload: float) -> str:
    """Serves the page in threads of its own, until ``page.close()``; gives its address.

    Args:
        max_upload: megabytes of a file that is sent.

    Raises:
        OSError: the port is taken.
    """
    page.queue(max_size=100, api_open=False)
    _, address, _ = page.launch(
        server_name=host,
        server_port=port,
        max_file_size=round(max_upload * 1e6),
        max_threads=_THREADS,
        state_session_capacity=_SESSIONS,
        app_kwargs={"middleware": [Middleware(LocalOnly)]},
        theme=THEME,
        css=CSS,
        prevent_thread_lock=True,
        share=False,
        quiet=True,
        ssr_mode=False,
        run_history=False,
        footer_links=[],
        enable_monitoring=False,
        mcp_server=False,
        pwa=False,
    )
    return address
