"""The demo with oracle tokens: true clauses in place of the X-Encoder's visual tokens.

    python benchmarks/oracle.py --checkpoint=runs/demo/start

What the demo misses, either its tokens do not tell or its predictor does not read. Here the tokens
of a clip are the clauses of a true caption, each the sum of its words' vectors as the language
model has learnt to read them (configs/language_model.py), repeated to as many as an X-Encoder
gives, and all the rest is configs/demo.py: both stages with their losses, steps and rates, from the
same converted backbones. The accuracies that are printed as JSON bound what better tokens could
bring within the demo's minutes; what they leave is the predictor's and the Y-Encoder's.
"""

from __future__ import annotations

import argparse
import collections
import json
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
import rich.console
from recipes import recipe

from vljepa_jax import host, run_dir
from vljepa_jax.config import WORLD, EvalConfig, TrainConfig
from vljepa_jax.data.datasets import find_dataset
from vljepa_jax.data.pipeline import TrainPipeline, array_spec, cached_clips
from vljepa_jax.data.records import Annotation
from vljepa_jax.data.rows import label_set
from vljepa_jax.data.storage import Dataset, open_dataset
from vljepa_jax.data.text_rows import compile_clause_break, split_clauses
from vljepa_jax.data.token_cache import cache_directory, write_token_cache
from vljepa_jax.data.tokenizers import Tokenizer
from vljepa_jax.fingerprint import fingerprint
from vljepa_jax.models.vljepa import VLJEPA
from vljepa_jax.objectives import make_objective
from vljepa_jax.parallel.sharding import make_mesh
from vljepa_jax.training.train_step import Trainer

SPLITS = {"": "test", "_compositional": "test_compositional"}
BATCH = 100  # clips or questions at a time


class Oracle:
    """Visual tokens from captions.

    Args:
        params: that training starts from; their projection maps the tokens onto the word vectors.
    """

    def __init__(self, config: TrainConfig, params: Any):
        self._tokenizer = Tokenizer(config.data.text.query_tokenizer)
        words = np.asarray(params["token_embedding"]["embedding"])
        kernel = np.asarray(params["vision_projection"]["kernel"])
        self._vectors = np.linalg.solve(kernel.T, words.T).T.astype(np.float32)
        context = recipe("configs/language_model.py").data.text.context
        self._clause_break = compile_clause_break(context.clause_break)
        # As with an X-Encoder: other tokens, another cache.
        self.key = f"oracle-{fingerprint([], self._vectors)}"
        self.shape = array_spec(config)["visual_tokens"][0][1:]

    def __call__(self, annotations: Sequence[Annotation], inputs: tuple[int, ...]) -> np.ndarray:
        """[n, x]: the clauses of a caption of these media of a record, over and over."""
        captions = [a for a in annotations if a.task == "caption"]
        told = next((a for a in captions if a.inputs == inputs), captions[0] if captions else None)
        text = told.texts[0] if told else annotations[0].texts[0]
        clauses = [
            self._vectors[ids[1:]].sum(axis=0) / np.sqrt(len(ids) - 1)
            for ids in self._tokenizer.encode_whole(split_clauses([text], self._clause_break))
        ]
        return np.resize(clauses, self.shape)


def train(config: TrainConfig, params: Any, oracle: Oracle, console: rich.console.Console) -> Any:
    """One stage on the oracle's tokens; returns its parameters."""
    for media, clips, name in cached_clips(config):
        directory = cache_directory(media.directory, media.split, name, oracle.key)
        if not directory.exists():
            annotations = open_dataset(media.directory).annotations(media.split)
            tokens = (oracle(annotations.of(record), inputs) for record, inputs in clips)
            write_token_cache(directory, clips, tokens, oracle.shape, [""] * len(clips))
    trainer = Trainer(config, make_objective(config), make_mesh(config.sharding))
    state = trainer.init()
    given = jax.tree.map(lambda new, at: jax.device_put(new, at.sharding), params, state.params)
    state = state.replace(params=given)
    step = trainer.compile(array_spec(config))
    for number, batch in enumerate(TrainPipeline(config, oracle.key).batches(0), 1):
        state, metrics = step(state, trainer.put(batch.arrays))
        if number % config.log_every == 0:
            console.print(f"step {number}/{config.steps}  loss {float(metrics['loss']):.4f}")
    return jax.device_get(state.params)


def evaluate(
    config: TrainConfig,
    params: Any,
    oracle: Oracle,
    dataset: Dataset,
    records: Sequence[Sequence[Annotation]],
) -> dict[str, dict[str, float]]:
    """Kind of question -> share that was answered right, and how many there were."""
    text = config.data.text
    model, tokenizer = VLJEPA(config.model), Tokenizer(text.query_tokenizer)
    predict = jax.jit(lambda *arrays: model.apply({"params": params}, *arrays, method="predict"))
    embed = jax.jit(lambda *arrays: model.apply({"params": params}, *arrays, method="encode_text"))
    labels = {
        name: np.asarray(
            embed(*tokenizer.encode([label.texts[0] for label in labels], text.target_length))
        )
        for name, labels in dataset.labels.items()
    }
    asked = [
        (annotations, annotation)
        for annotations in records
        for annotation in annotations
        if label_set(annotation) and annotation.task in ("classification", "vqa")
    ]
    right = collections.defaultdict(list)
    for start in range(0, len(asked), BATCH):
        some = asked[start : start + BATCH]
        some = some + some[-1:] * (BATCH - len(some))  # one size: it is compiled once
        tokens = np.stack([oracle(record, annotation.inputs) for record, annotation in some])
        queries = tokenizer.encode([a.query for _, a in some], text.query_length)
        found = np.asarray(predict(tokens, *queries))
        for (_, annotation), embedding in zip(asked[start : start + BATCH], found, strict=False):
            best = np.argmax(labels[label_set(annotation)] @ embedding)
            right[annotation.tags["kind"]].append(best == annotation.gold)
    return {
        kind: {"value": round(100 * float(np.mean(hits)), 1), "n": len(hits)}
        for kind, hits in sorted(right.items())
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", required=True, help="what launch/convert.py wrote")
    parser.add_argument("--clips", type=int, default=300, help="of each test split (%(default)s)")
    arguments = parser.parse_args()
    console = rich.console.Console(stderr=True)
    _, params = run_dir.load_params(arguments.checkpoint)
    oracle = Oracle(recipe("configs/demo.py"), params)
    for variant in ("captions", ""):
        config = recipe("configs/demo.py", variant)
        params = train(config, params, oracle, console)
    world = recipe("configs/eval/world.py", kind=EvalConfig)
    dataset = find_dataset(WORLD, world.world)
    metrics = {}
    for suffix, split in SPLITS.items():
        count = min(arguments.clips, dataset.splits[split])
        records = list(map(dataset.annotations(split).of, range(count)))
        found = evaluate(config, params, oracle, dataset, records)
        metrics |= {f"{kind}{suffix}": value for kind, value in found.items()}
    print(json.dumps({"steps": config.steps, "metrics": metrics}, indent=2))


if __name__ == "__main__":
    host.set_up()
    main()
