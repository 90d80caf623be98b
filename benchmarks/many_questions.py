"""What 150,000 questions cost an evaluation beside decoding and embedding: memory and time.

    python benchmarks/many_questions.py
    python benchmarks/many_questions.py --pictures=50000 --questions=1 --labels=1000

Pictures of 8 x 8 pixels, as many as CLEVR's validation has (or ImageNet's), with questions about
each, which a model answers whose embeddings are random and cost nothing. Embeddings are kept on
disk, as launch/eval.py does. The JSON that is printed holds the growth of the process's largest
memory from when all is imported and the first picture was read, per question, too, and the
seconds of processors.
"""

from __future__ import annotations

import argparse
import io
import json
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
from machine import processor
from PIL import Image

from vljepa_jax import host
from vljepa_jax.config import BenchmarkConfig, ChooseConfig, EvalConfig, VideoInput, VJEPA2Config
from vljepa_jax.data.records import Annotation, Label, Medium, Record
from vljepa_jax.data.storage import write_dataset
from vljepa_jax.evals.run import write_evaluation
from vljepa_jax.inference.embedder import Embedder

SIZE = 16  # of an embedding


class Random(Embedder):
    """Takes no time: embeddings of pictures and texts are drawn by their number."""

    batch_size = 64
    embedding_size = SIZE
    video = VideoInput(1, 8, "uniform", "centre", (1.0, 1.0), VJEPA2Config.preprocessing)
    fingerprint = "random"
    card = {"kind": "Random", "name": "random", "source": "", "fingerprint": "random"}

    def embed_text(self, texts):
        return _unit(len([texts] if isinstance(texts, str) else texts))

    def encode_clips(self, clips):
        return clips

    def predict_tokens(self, visual_tokens, rows, queries):
        return _unit(len(rows))


def _unit(count: int) -> np.ndarray:
    drawn = np.random.default_rng(count).normal(size=(count, SIZE)).astype(np.float32)
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pictures", type=int, default=15_000, help="%(default)s")
    parser.add_argument("--questions", type=int, default=10, help="about each; %(default)s")
    parser.add_argument("--labels", type=int, default=28, help="answers; %(default)s")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "questions"
        labels = {"answers": [Label(str(i), (f"answer {i}",)) for i in range(options.labels)]}
        for split, pictures in (("few", 8), ("all", options.pictures)):
            write_dataset(
                path / split,
                {"test": _records(pictures, options)},
                name=split,
                description="",
                labels=labels,
            )
        _evaluate(path / "few")  # what is imported and compiled once
        before, start, clock = _peak(), time.process_time(), time.perf_counter()
        report = _evaluate(path / "all")
        grown = _peak() - before
        count = options.pictures * options.questions
        found = {
            "questions": count,
            "labels": options.labels,
            "mebibytes": round(grown / 2**20, 1),
            "bytes_per_question": round(grown / count),
            "processor_seconds": round(time.process_time() - start, 1),
            "seconds": round(time.perf_counter() - clock, 1),
            "top1": report["metrics"]["questions_top1"]["value"],
            "processor": processor(),
        }
    print(json.dumps(found, indent=2))


def _records(pictures: int, options: argparse.Namespace):
    file = io.BytesIO()
    Image.new("RGB", (8, 8), (200, 30, 30)).save(file, "PNG")
    for picture in range(pictures):
        annotations = tuple(
            Annotation(
                f"{picture}-{question}",
                "vqa",
                query=f"What is asked about thing {question} of the picture number {picture}?",
                candidates="@labels/answers",
                gold=(picture + question) % options.labels,
                tags={"kind": f"of {question}"},
            )
            for question in range(options.questions)
        )
        yield Record(str(picture), (Medium(data=file.getvalue()),), annotations)


def _evaluate(dataset: Path) -> dict:
    benchmark = BenchmarkConfig(
        "questions", "", ChooseConfig(), str(dataset), "test", {"task": "vqa"}, None, 0
    )
    config = EvalConfig(0, Random.batch_size, None, 0, (benchmark,), None)
    output = dataset.parent / f"report_{dataset.name}"
    write_evaluation(Random(), config, config.benchmarks, output, cache=output / "embeddings")
    return json.loads((output / "report.json").read_text())


def _peak() -> int:
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    host.set_up()
    main()
