"""Run by test_results.py: evaluates a folder of pictures, and is killed when it encodes the n-th.

The clips that were encoded are appended to the file "encoded" in the output, one line each.
"""

import os
import signal
import sys
from pathlib import Path

from tests.evals.test_results import benchmarks_of
from tests.helpers.colour_model import ColourModel
from vljepa_jax.config import EvalConfig
from vljepa_jax.evals import embedding_cache
from vljepa_jax.evals.run import write_evaluation


class Killed(ColourModel):
    def __init__(self, output: Path, last: int) -> None:
        super().__init__()
        self._output, self._last = output, last

    def encode_clips(self, clips):
        with (self._output / "encoded").open("a") as file:
            file.write("clip\n" * len(clips))
        if self.encoded >= self._last:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().encode_clips(clips)


def main(dataset: str, output: str, last: str) -> None:
    embedding_cache._SECONDS = 0  # what is embedded is written at once
    Path(output).mkdir(exist_ok=True)
    benchmarks = benchmarks_of(dataset)
    config = EvalConfig(0, 2, None, 0, benchmarks, None)
    model = Killed(Path(output), int(last))
    write_evaluation(model, config, benchmarks, Path(output), cache=Path(output) / "embeddings")


if __name__ == "__main__":
    main(*sys.argv[1:])
