"""Run by test_embed_collection.py: embeds, and kills itself with SIGKILL after the first shard."""

import os
import runpy
import signal

from vljepa_jax.inference.search.index import IndexWriter

add = IndexWriter.add


def fatal_add(*arguments):
    add(*arguments)
    os.kill(os.getpid(), signal.SIGKILL)


IndexWriter.add = fatal_add
runpy.run_path("launch/embed.py", run_name="__main__")
