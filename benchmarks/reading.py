"""Reading an X-Encoder's tokens with a language model, by the number of things in a clip.

    python launch/convert.py --config=configs/x_encoder.py:reader --x_encoder=@bundled \
        --predictor=@bundled --output=runs/reader
    python benchmarks/reading.py --checkpoint=runs/reader

Questions of a test split of the world are answered as in the bidirectional steps of objective
"visual_reader", by the label whose words are likeliest in the mean. Where the tokens do not tell
which motion belongs to which thing, a question that names the one and asks for the other is
answered correctly for one clip of k things in k, and the accuracies fall accordingly. Prints
percentages, and n, as JSON.
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import json

import jax
import numpy as np
from recipes import recipe

from vljepa_jax import host, run_dir
from vljepa_jax.config import WORLD, EvalConfig
from vljepa_jax.data.datasets import find_dataset
from vljepa_jax.data.rows import label_set
from vljepa_jax.data.tokenizers import Tokenizer
from vljepa_jax.data.workers import decode_media
from vljepa_jax.models.visual_reader import VisualReader

CLIPS, QUESTIONS = 50, 100  # at a time


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--checkpoint", required=True, help="a run or conversion of objective visual_reader"
    )
    parser.add_argument("--clips", type=int, default=300, help="%(default)s")
    parser.add_argument("--split", default="test", help="%(default)s; or test_compositional")
    options = parser.parse_args()
    config, params = run_dir.load_params(options.checkpoint)
    causal = config.model.predictor
    reader = VisualReader(
        dataclasses.replace(config.model, predictor=dataclasses.replace(causal, causal=False))
    )
    world = recipe("configs/eval/world.py", kind=EvalConfig).world
    dataset = find_dataset(WORLD, world)
    media, annotations = dataset.media(options.split), dataset.annotations(options.split)
    asked = [
        (index, annotation)
        for index in range(min(options.clips, len(media)))
        for annotation in annotations.of(index)
        if label_set(annotation) and annotation.task in ("classification", "vqa")
    ]

    def apply(method: str):
        return jax.jit(lambda inputs: reader.apply({"params": params}, inputs, method=method))

    encode, pooled, logits_of = apply("visual_tokens"), apply("pooled"), apply("logits")
    wanted = sorted({(index, annotation.inputs) for index, annotation in asked})
    clips = list(decode_media(media, wanted, config.video_input, 0))
    tokens = {}
    for start in range(0, len(wanted), CLIPS):
        some = clips[start : start + CLIPS]
        found = encode({"video": np.stack(some + some[-1:] * (CLIPS - len(some)))})
        tokens |= zip(wanted[start : start + CLIPS], np.asarray(found), strict=False)

    tokenizer = Tokenizer(config.data.text.tokenizer)
    words = {
        name: [ids[1:] for ids in tokenizer.encode_whole([label.texts[0] for label in labels])]
        for name, labels in dataset.labels.items()
    }
    right = collections.defaultdict(list)
    for start in range(0, len(asked), QUESTIONS):
        some = asked[start : start + QUESTIONS]
        padded = some + some[-1:] * (QUESTIONS - len(some))
        queries, mask = tokenizer.encode(
            [annotation.query for _, annotation in padded], config.data.text.query_length
        )
        arrays = {
            "visual_tokens": np.stack([tokens[index, a.inputs] for index, a in padded]),
            "query_tokens": queries[:, None],
            "query_mask": mask[:, None],
        }
        logits = np.asarray(jax.nn.log_softmax(logits_of(pooled(arrays)[:, 0])))
        for (index, annotation), likely in zip(some, logits, strict=False):
            scores = [likely[ids].mean() for ids in words[label_set(annotation)]]
            hit = int(np.argmax(scores)) == annotation.gold
            things = annotations.of(index)[0].tags["objects"]
            for group in ("all", things):
                right[annotation.tags["kind"], group].append(hit)
    report = collections.defaultdict(dict)
    for (kind, things), hits in sorted(right.items()):
        report[kind][things] = {"value": round(100 * float(np.mean(hits)), 1), "n": len(hits)}
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    host.set_up()
    main()
