"""The gap between predictions and texts on the clips that a benchmark takes its captions from."""

from __future__ import annotations

import numpy as np

from vljepa_jax.config import ConfigError, EvalConfig
from vljepa_jax.data.records import ClipError
from vljepa_jax.data.workers import in_batches
from vljepa_jax.evals.benchmarks import video_of
from vljepa_jax.evals.datasets import Datasets, file_order
from vljepa_jax.evals.evaluate import require_same_model
from vljepa_jax.evals.examples import ClipRef, fits
from vljepa_jax.evals.protocols.registry import make_protocol
from vljepa_jax.inference.embedder import Embedder
from vljepa_jax.inference.gap import Gap, measure_gap
from vljepa_jax.parallel.processes import divided, gather, share


def caption_gap(model: Embedder, config: EvalConfig, clips: int) -> Gap:
    """Measures the gap of a model on the first clips of different meaning that have two captions.

    Several processes embed a share of clips and texts each; all of them get the result.

    Raises:
        ConfigError: no benchmark of the config has a bank of captions, or too few such clips.
        DatasetError: the dataset or the split is not there.
    """
    banks = ((b, make_protocol(b).bank_split) for b in config.benchmarks)
    benchmark, split = next(((b, split) for b, split in banks if split), (None, None))
    if benchmark is None:
        raise ConfigError("benchmarks: none has a bank of captions (protocol.bank_split)")
    require_same_model(model)
    datasets = Datasets(config.world, config.num_workers, config.data)
    chosen, meanings = {}, set()
    for record, annotation in datasets.annotations(benchmark.path, split):
        meaning = annotation.tags.get("meaning", annotation.id)
        if len(chosen) < clips and len(annotation.texts) > 1 and fits(benchmark, annotation):
            clip = ClipRef(benchmark.path, split, record, annotation.inputs)
            if clip not in chosen and meaning not in meanings:
                chosen[clip] = annotation
                meanings.add(meaning)
    predicted = in_batches(
        lambda asked, frames: model.predict(frames, [chosen[clip].query for clip in asked]),
        datasets.decode(share(sorted(chosen, key=file_order)), video_of(benchmark, model.video)),
        model.batch_size,
    )
    own = {clip: vector for clip, vector in predicted if not isinstance(vector, ClipError)}
    embedded = {clip: vector for part in gather(own) for clip, vector in part.items()}
    if len(embedded) < 2:
        raise ConfigError(
            f"split '{split}' of {benchmark.path} has {len(embedded)} readable "
            "clips of different meaning with two captions; at least two are needed"
        )
    captions = [
        np.stack(divided(model.embed_text, [chosen[clip].texts[place] for clip in embedded]))
        for place in (0, 1)
    ]
    return measure_gap(np.stack(list(embedded.values())), *captions)
