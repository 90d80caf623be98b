"""A page on a free port, served from this process, as ``launch/app.py`` serves it."""

import contextlib
import os
import socket
import tempfile

import numpy as np

from tests.helpers.colour_model import COLOURS, ColourModel


class ColourWriter:
    """Writes the name of the nearest colour."""

    fingerprint = "writer"

    def decode(self, embeddings, method="greedy", **settings):
        names = np.array([np.array(colour) / 255 for colour in COLOURS.values()])
        return [list(COLOURS)[i] for i in (embeddings @ names.T).argmax(axis=1)]


def writing_colour_model():
    """A ``ColourModel`` that writes texts."""
    model = ColourModel()
    model.text_decoder = ColourWriter()
    return model


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def served(model, *, index=None, videos=(), max_upload=200.0, longest=600.0):
    """Serves the page of a model; gives its address and the folder of what is sent."""
    with tempfile.TemporaryDirectory(prefix="vljepa_app_") as folder:
        os.environ["GRADIO_TEMP_DIR"] = folder  # before Gradio is imported
        from vljepa_jax.app.page import build
        from vljepa_jax.app.search import Library
        from vljepa_jax.app.server import serve
        from vljepa_jax.app.shared_model import SharedModel
        from vljepa_jax.app.visitors import Uploads

        shared = SharedModel(model)
        uploads = Uploads(folder, longest)
        uploads.sweep_forever()
        page = build(shared, Library(shared, index, videos, 0), uploads)
        try:
            yield serve(page, host="127.0.0.1", port=free_port(), max_upload=max_upload), folder
        finally:
            page.close(verbose=False)
