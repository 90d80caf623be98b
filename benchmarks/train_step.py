"""Our full training step against the same step built from transformers' modules, in one process.

    python benchmarks/train_step.py
    python benchmarks/train_step.py --cases=demo --repetitions=9
    python benchmarks/train_step.py --cases=1b        # on a GPU: the whole 1B model, ours alone

It needs the environment of ``make test-parity``. "demo" has the sizes of configs/demo.py, from
pixels; "quarter" the widths of configs/vljepa_1b.py and a quarter of its layers. Both steps go from
the same weights over the same batches, X-Encoder and token table frozen: forward, symmetric
InfoNCE, backward, clipping, AdamW with the recipe's rates and decays. The losses of the first steps
are compared before anything is timed. On a CPU both compute in float32 with the same number of
threads; on a GPU in bfloat16, torch through autocast and torch.compile. The two take turns, and the
JSON that is printed holds medians, their ratio, and shares of the best rate of matrix products
reached here, of the model's own arithmetic. Run it on a machine that does nothing else.

"1b" doubles the batch until the memory is full and gives the share of that peak for each.
"""

from __future__ import annotations

import argparse
import dataclasses
import gc
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vljepa_jax import host

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # tests.helpers: the references

CASES = ("demo", "quarter")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cases", default=",".join(CASES), help="%(default)s; or 1b")
    parser.add_argument("--repetitions", type=int, default=7, help="of each, in turns")
    parser.add_argument("--threads", type=int, default=host.available_cpus())
    chosen = parser.parse_args()
    unknown = set(chosen.cases.split(",")) - {*CASES, "1b"}
    if unknown:
        parser.error(f"--cases: no {', '.join(sorted(unknown))}; there are {', '.join(CASES)}, 1b")
    return chosen


ARGUMENTS = arguments()
host.keep_memory()
# Before jax starts its threads: as many as it sees processors. Torch is told below.
os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: ARGUMENTS.threads])
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # torch needs room on a GPU too

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402
from machine import processor  # noqa: E402
from measured_peak import peaks  # noqa: E402
from recipes import quarter, random_batch, recipe  # noqa: E402
from torch.nn import functional  # noqa: E402

import tests.helpers.reference_twins as reference  # noqa: E402
from tests.helpers.twins import parameters  # noqa: E402
from vljepa_jax.config import TrainConfig  # noqa: E402
from vljepa_jax.convert.families import placed  # noqa: E402
from vljepa_jax.data.pipeline import array_spec  # noqa: E402
from vljepa_jax.objectives import make_objective  # noqa: E402
from vljepa_jax.parallel.sharding import make_mesh  # noqa: E402
from vljepa_jax.training.flops import model_flops  # noqa: E402
from vljepa_jax.training.train_step import Trainer  # noqa: E402

GPU = jax.default_backend() == "gpu"
DEVICE = "cuda" if GPU else "cpu"
TOLERANCE = 0.03 if GPU else 1e-3  # of the losses, relative
COMPARED_STEPS = 3

Arrays = dict[str, np.ndarray]


def main() -> None:
    torch.set_num_threads(ARGUMENTS.threads)
    rates = peaks(GPU, ARGUMENTS.repetitions)
    report: dict[str, Any] = {
        "machine": jax.devices()[0].device_kind if GPU else processor(),
        "threads": ARGUMENTS.threads,
        "dtype": "bfloat16" if GPU else "float32",
        "versions": {m.__name__: m.__version__ for m in (jax, torch, transformers)},
        "repetitions": ARGUMENTS.repetitions,
        "matmul_gflops": {name: round(rate / 1e9, 1) for name, rate in rates.items()},
        "cases": {},
    }
    for name in ARGUMENTS.cases.split(","):
        print(f"{name} ...", file=sys.stderr, flush=True)
        best = max(rates.values())
        found = _largest_batch(best) if name == "1b" else _measure(CONFIGS[name](), best)
        report["cases"][name] = found
        print(json.dumps(found), file=sys.stderr, flush=True)  # what there is, if it is cut short
        gc.collect()
    print(json.dumps(report, indent=2))


# ---------------------------------------------------------------------------------------------
# The cases
# ---------------------------------------------------------------------------------------------
CONFIGS: dict[str, Callable[[], TrainConfig]] = {
    "demo": lambda: _adapted(recipe("configs/demo.py"), batch_size=128),
    "quarter": lambda: _adapted(quarter(), batch_size=32 if GPU else 2),
}


def _adapted(config: TrainConfig, batch_size: int) -> TrainConfig:
    """The recipe on one device, from pixels, as both libraries can compute it.

    transformers knows the published rotary embedding of the X-Encoder alone. On a CPU layers are
    compiled one by one and nothing is recomputed, as in configs/demo.py.
    """
    model = config.model
    model = dataclasses.replace(
        model,
        x_encoder=dataclasses.replace(model.x_encoder, rope="tiled"),
        predictor=dataclasses.replace(model.predictor, first_layer=0),
        y_encoder=dataclasses.replace(model.y_encoder, dense_sizes=()),
        dtype="bfloat16" if GPU else "float32",
        remat="none",
        unroll_layers=not GPU,
    )
    data = dataclasses.replace(config.data, visual_tokens="compute")
    optimizer = dataclasses.replace(
        config.optimizer,
        schedule="constant",
        warmup_steps=0,
        rules=recipe("configs/vljepa_1b.py").optimizer.rules,
    )
    return dataclasses.replace(
        config, batch_size=batch_size, model=model, data=data, optimizer=optimizer
    )


def _measure(config: TrainConfig, peak: float) -> dict[str, Any]:
    theirs, weights = _their_step(config)
    ours = _our_step(config, weights)
    batches = [random_batch(config, seed) for seed in range(COMPARED_STEPS)]
    losses = {
        name: np.array([step(batch) for batch in batches])
        for name, step in (("ours", ours), ("theirs", theirs))
    }
    difference = np.max(np.abs(losses["ours"] / losses["theirs"] - 1))
    if not difference < TOLERANCE:
        raise SystemExit(f"the losses differ, there is nothing to compare: {losses}")
    seconds: dict[str, list[float]] = {"ours": [], "theirs": []}
    for _ in range(ARGUMENTS.repetitions):
        for name, step in (("ours", ours), ("theirs", theirs)):
            start = time.perf_counter()
            step(batches[0])
            seconds[name].append(time.perf_counter() - start)
    median = {name: statistics.median(times) for name, times in seconds.items()}
    flops = model_flops(config)
    return {
        "batch_size": config.batch_size,
        "ours_ms": round(median["ours"] * 1e3, 1),
        "torch_ms": round(median["theirs"] * 1e3, 1),
        "torch_over_ours": round(median["theirs"] / median["ours"], 3),
        "ours_share_of_peak": round(flops / median["ours"] / peak, 3),
        "torch_share_of_peak": round(flops / median["theirs"] / peak, 3),
        "model_gflop": round(flops / 1e9, 1),
        "losses": {name: [round(float(x), 5) for x in values] for name, values in losses.items()},
        "largest_difference": float(f"{difference:.1e}"),
    }


def _largest_batch(peak: float) -> dict[str, Any]:
    """The 1B model, image stage, at growing batches until they do not fit."""
    if not GPU:
        raise SystemExit("--cases=1b needs a GPU")
    base = recipe("configs/vljepa_1b.py", "image")
    found: dict[str, Any] = {}
    batch_size = 32
    while True:
        config = dataclasses.replace(base, batch_size=batch_size)
        try:
            step = _our_step(config, None)
            batch = random_batch(config, 0)
            step(batch)
            seconds = []
            for _ in range(ARGUMENTS.repetitions):
                start = time.perf_counter()
                step(batch)
                seconds.append(time.perf_counter() - start)
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            return found
        median = statistics.median(seconds)
        share = model_flops(config) / median / peak
        found[str(batch_size)] = {"ms": round(median * 1e3, 1), "share_of_peak": round(share, 3)}
        del step
        gc.collect()
        batch_size *= 2


# ---------------------------------------------------------------------------------------------
# Ours
# ---------------------------------------------------------------------------------------------
def _our_step(config: TrainConfig, weights: Any) -> Callable[[Arrays], float]:
    """One update on a batch -> its loss; from ``weights``, or random where they are ``None``."""
    mesh = make_mesh(config.sharding, jax.devices()[:1])
    trainer = Trainer(config, make_objective(config), mesh)
    state = trainer.init()
    if weights is not None:
        like = state.params
        state = state.replace(
            params=jax.tree.map(
                lambda array, leaf: jax.device_put(jnp.asarray(array, leaf.dtype), leaf.sharding),
                weights,
                like,
            )
        )
    step = trainer.compile(array_spec(config))

    def run(batch: Arrays) -> float:
        nonlocal state
        state, metrics = step(state, trainer.put(batch))
        return float(jax.block_until_ready((state, metrics))[1]["loss"])

    return run


# ---------------------------------------------------------------------------------------------
# transformers
# ---------------------------------------------------------------------------------------------
class _TorchVLJEPA(torch.nn.Module):
    """The paper's model from transformers' backbones, on rows without padding."""

    def __init__(self, config: TrainConfig):
        super().__init__()
        model = config.model
        width, text_width = model.predictor.hidden_size, model.y_encoder.hidden_size
        self.x_encoder = reference.vjepa2_reference(
            model.x_encoder, config.data.video.image_size, attention="sdpa"
        )
        del self.x_encoder.predictor
        self.predictor = reference.llama_reference(
            model.predictor, model.predictor.num_layers, attention="sdpa"
        )
        self.predictor.config.is_causal = False
        for layer in self.predictor.layers:
            layer.self_attn.is_causal = False
        self.y_encoder = reference.gemma_reference(model.y_encoder, attention="sdpa")
        self.vision_projection = torch.nn.Linear(model.x_encoder.hidden_size, width)
        self.predictor_head = torch.nn.Linear(width, model.embedding_size, bias=False)
        self.y_head = torch.nn.Linear(text_width, model.embedding_size, bias=False)
        self.log_logit_scale = torch.nn.Parameter(
            torch.tensor(-np.log(model.initial_temperature), dtype=torch.float32)
        )
        self._pixels = model.x_encoder.preprocessing
        self._most = model.max_logit_scale
        self._of_query = model.pooling == "query"

    def forward(self, video, query_tokens, target_tokens, target_id):
        mean = torch.tensor(self._pixels.mean, device=video.device)
        std = torch.tensor(self._pixels.std, device=video.device)
        pixels = ((video.float() / 255 - mean) / std).permute(0, 1, 4, 2, 3)
        with torch.no_grad():
            visual = self.x_encoder(
                pixel_values_videos=pixels, skip_predictor=True
            ).last_hidden_state
        with torch.no_grad():
            query = self.predictor.embed_tokens(query_tokens)
        projected = self.vision_projection(visual)
        tokens = torch.cat([projected, query.to(projected.dtype)], dim=1)
        hidden = self.predictor(inputs_embeds=tokens, use_cache=False).last_hidden_state
        if self._of_query:
            hidden = hidden[:, visual.shape[1] :]
        predicted = functional.normalize(self.predictor_head(hidden.float().mean(1)).float(), dim=1)
        text = self.y_encoder(input_ids=target_tokens, use_cache=False).last_hidden_state
        target = functional.normalize(self.y_head(text.float().mean(1)).float(), dim=1)
        logits = self.log_logit_scale.exp().clamp(max=self._most) * predicted @ target.T
        equal = target_id[:, None] == target_id[None, :]
        equal.fill_diagonal_(False)
        logits = logits.masked_fill(equal, -torch.inf)
        right = torch.arange(len(logits), device=logits.device)
        return (
            functional.cross_entropy(logits, right) + functional.cross_entropy(logits.T, right)
        ) / 2


def _their_step(config: TrainConfig) -> tuple[Callable[[Arrays], float], Any]:
    """One update on a batch -> its loss; and the initial weights as ours has them."""
    torch.manual_seed(0)
    model = _TorchVLJEPA(config)
    weights = _converted(config, model)
    model.to(DEVICE)
    model.train()
    settings = config.optimizer
    for frozen in (model.x_encoder, model.predictor.embed_tokens):
        frozen.requires_grad_(False)
    groups: dict[tuple[float, float], list] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        bare = parameter.ndim < 2 or "norm" in name
        rate = 0.05 if name.startswith("y_encoder.") else 1.0
        # The recipe's second rule for the Y-Encoder; its kernels and its table decay.
        decay = 0.0 if bare else settings.weight_decay
        groups.setdefault((rate, decay), []).append(parameter)
    optimizer = torch.optim.AdamW(
        [
            {"params": found, "lr": settings.learning_rate * rate, "weight_decay": decay}
            for (rate, decay), found in groups.items()
        ],
        betas=(settings.beta1, settings.beta2),
        eps=settings.epsilon,
        fused=GPU,
    )
    trained = [parameter for found in groups.values() for parameter in found]
    forward = torch.compile(model) if GPU else model

    def run(batch: Arrays) -> float:
        optimizer.zero_grad(set_to_none=True)
        inputs = [
            torch.as_tensor(batch[name], device=DEVICE)
            for name in ("video", "query_tokens", "target_tokens", "target_id")
        ]
        with torch.autocast(DEVICE, torch.bfloat16, enabled=GPU):
            loss = forward(*inputs)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, settings.max_grad_norm)
        optimizer.step()
        return loss.item()

    return run, weights


def _converted(config: TrainConfig, model: _TorchVLJEPA) -> Any:
    """Torch's initial weights, by our converter."""
    params: dict[str, Any] = {"log_logit_scale": model.log_logit_scale.detach().numpy()}
    for part in ("x_encoder", "predictor", "y_encoder"):
        state = {
            name: value.detach().numpy()
            for name, value in getattr(model, part).state_dict().items()
        }
        params |= placed(parameters(getattr(config.model, part), state), part)
    for name in ("vision_projection", "predictor_head", "y_head"):
        layer = getattr(model, name)
        params[name] = {"kernel": layer.weight.detach().numpy().T}
        if layer.bias is not None:
            params[name]["bias"] = layer.bias.detach().numpy()
    return params


if __name__ == "__main__":
    main()
