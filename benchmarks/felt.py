"""How long a person waits: for an import, for --help, for a search, for an answer, for a start.

    python benchmarks/felt.py --checkpoint=runs/demo
    python benchmarks/felt.py --checkpoint=runs/demo --index=index "a dog that spins"

The JSON that is printed holds, of each, the median seconds by the clock and of processors, the
latter hardly changed by what else the machine does:

    import          python -c "import vljepa_jax"
    help            launch/search.py --help
    first_search    launch/search.py from typing to hits, nothing compiled being kept
    search          the same again: read from disk is what the first compiled
    answer          model.answer on a clip in memory: encodes it, reads question and candidates
    answer_encoded  the same where visual tokens (model.encode_clips) and candidates are kept

Without --index, the index is of clips of the world that are written for it.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from machine import processor

import vljepa_jax
from vljepa_jax import host
from vljepa_jax.config import WORLD
from vljepa_jax.data.records import ClipError
from vljepa_jax.evals.datasets import Datasets
from vljepa_jax.evals.examples import ClipRef

ROOT = Path(__file__).parents[1]
QUESTION = "What colour is it?"
CANDIDATES = ["red", "green", "blue", "yellow"]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("text", nargs="?", default="a dog that spins", help="%(default)s")
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("--index", help="made by launch/embed.py")
    parser.add_argument("--repetitions", type=int, default=5, help="of each; %(default)s")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    with tempfile.TemporaryDirectory() as directory:
        index = options.index or _index(options.checkpoint, Path(directory))
        found = _started(options, index, Path(directory)) | _answers(options)
    report = {
        "machine": processor(),
        "processors": host.available_cpus(),
        "repetitions": options.repetitions,
        "seconds": found,
    }
    print(json.dumps(report, indent=2))


def _started(options: argparse.Namespace, index: str, directory: Path) -> dict[str, dict]:
    """Programs, each in a process of its own."""
    search = ["launch/search.py", f"--index={index}", f"--checkpoint={options.checkpoint}"]
    found = {
        name: _median(lambda c=command: _run(c, os.environ), options.repetitions, children=True)
        for name, command in {
            "import": ["-c", "import vljepa_jax"],
            "help": ["launch/search.py", "--help"],
        }.items()
    }
    caches = iter(directory / f"compiled{n}" for n in range(options.repetitions))

    def anew() -> None:
        _run([*search, options.text], _keeping(next(caches)))

    found["first_search"] = _median(anew, options.repetitions, children=True)
    kept = _keeping(directory / "compiled0")
    found["search"] = _median(
        lambda: _run([*search, options.text], kept), options.repetitions, children=True
    )
    return found


def _keeping(directory: Path) -> dict[str, str]:
    """The environment with compiled programs kept there, as in ~/.cache/vljepa_jax."""
    return os.environ | {
        "JAX_COMPILATION_CACHE_DIR": str(directory),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1",
    }


def _answers(options: argparse.Namespace) -> dict[str, dict]:
    model = vljepa_jax.load(options.checkpoint)
    clip = _clips(model, 1)[0]
    tokens = model.encode_clips(clip[None])
    texts = model.embed_text(CANDIDATES)

    def encoded() -> None:
        predicted = model.predict_tokens(tokens, np.array([0]), [QUESTION])
        int(np.argmax(predicted @ texts.T))

    works = {
        "answer": lambda: model.answer(clip, QUESTION, CANDIDATES),
        "answer_encoded": encoded,
    }
    found = {}
    for name, work in works.items():
        work()  # compiles
        found[name] = _median(work, 10 * options.repetitions)
    return found


def _clips(model: vljepa_jax.Model, count: int) -> list[np.ndarray]:
    datasets = Datasets(model.history.config.world, num_workers=0)
    wanted = [ClipRef(WORLD, "test", record, (0,)) for record in range(count)]
    found = (clip for _, clip in datasets.decode(wanted, model.video))
    return [clip for clip in found if not isinstance(clip, ClipError)]


def _index(checkpoint: str, directory: Path) -> str:
    """An index of 32 clips, written as pictures of their first frames."""
    from PIL import Image

    media, index = directory / "media", directory / "index"
    media.mkdir()
    for number, clip in enumerate(_clips(vljepa_jax.load(checkpoint), 32)):
        Image.fromarray(clip[0]).save(media / f"{number}.png")
    command = ["launch/embed.py", f"--checkpoint={checkpoint}", f"--videos={media}"]
    _run([*command, f"--output={index}"], os.environ)
    return str(index)


def _run(command: list[str], environment: dict[str, str]) -> None:
    subprocess.run(
        [sys.executable, *command], cwd=ROOT, env=environment, check=True, capture_output=True
    )


def _median(work: Callable[[], object], repetitions: int, *, children: bool = False) -> dict:
    """Seconds of one, by the clock and of processors: this process's, or its children's."""
    who = resource.RUSAGE_CHILDREN if children else resource.RUSAGE_SELF
    clock, processors = [], []
    for _ in range(repetitions):
        before, start = resource.getrusage(who), time.perf_counter()
        work()
        clock.append(time.perf_counter() - start)
        after = resource.getrusage(who)
        processors.append(sum(after[:2]) - sum(before[:2]))  # user's and system's
    return {
        "clock": round(statistics.median(clock), 4),
        "processor": round(statistics.median(processors), 4),
    }


if __name__ == "__main__":
    host.set_up()
    main()
