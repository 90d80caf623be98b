"""A full training step of ours, and the same of transformers' modules, from the same weights.

Importing this imports jax and torch: the processors and the memory that they take are set before.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from recipes import quarter, recipe
from torch.nn import functional
from torch.profiler import record_function

import tests.helpers.reference_twins as reference
from tests.helpers.twins import parameters
from vljepa_jax.config import TrainConfig
from vljepa_jax.convert.families import placed
from vljepa_jax.data.pipeline import array_spec
from vljepa_jax.objectives import make_objective
from vljepa_jax.parallel.sharding import make_mesh
from vljepa_jax.training.train_step import Trainer

GPU = jax.default_backend() == "gpu"
DEVICE = "cuda" if GPU else "cpu"

Arrays = dict[str, np.ndarray]


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


# ---------------------------------------------------------------------------------------------
# Ours
# ---------------------------------------------------------------------------------------------
class OurStep:
    """One update on a batch -> its loss; from ``weights``, or random where they are ``None``.

    Attributes:
        compiled: the program of the update.
    """

    def __init__(self, config: TrainConfig, weights: Any) -> None:
        mesh = make_mesh(config.sharding, jax.devices()[:1])
        self._trainer = Trainer(config, make_objective(config), mesh)
        self._state = self._trainer.init()
        if weights is not None:
            params = jax.tree.map(
                lambda array, leaf: jax.device_put(jnp.asarray(array, leaf.dtype), leaf.sharding),
                weights,
                self._state.params,
            )
            self._state = self._state.replace(params=params)
        self.compiled = self._trainer.compile(array_spec(config))

    def __call__(self, batch: Arrays) -> float:
        self._state, metrics = self.compiled(self._state, self._trainer.put(batch))
        return float(jax.block_until_ready((self._state, metrics))[1]["loss"])


# ---------------------------------------------------------------------------------------------
# transformers
# ---------------------------------------------------------------------------------------------
class TorchVLJEPA(torch.nn.Module):
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

    def visual_tokens(self, video):
        mean = torch.tensor(self._pixels.mean, device=video.device)
        std = torch.tensor(self._pixels.std, device=video.device)
        pixels = ((video.float() / 255 - mean) / std).permute(0, 1, 4, 2, 3)
        return self.x_encoder(pixel_values_videos=pixels, skip_predictor=True).last_hidden_state

    def predict(self, video, query_tokens):
        with torch.no_grad():
            visual = self.visual_tokens(video)
        with torch.no_grad():
            query = self.predictor.embed_tokens(query_tokens)
        projected = self.vision_projection(visual)
        tokens = torch.cat([projected, query.to(projected.dtype)], dim=1)
        hidden = self.predictor(inputs_embeds=tokens, use_cache=False).last_hidden_state
        if self._of_query:
            hidden = hidden[:, visual.shape[1] :]
        return functional.normalize(self.predictor_head(hidden.float().mean(1)).float(), dim=1)

    def forward(self, video, query_tokens, target_tokens, target_id):
        predicted = self.predict(video, query_tokens)
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


def their_step(config: TrainConfig) -> tuple[Callable[[Arrays], float], Any]:
    """One update on a batch -> its loss; and the initial weights as ours has them."""
    torch.manual_seed(0)
    model = TorchVLJEPA(config)
    weights = converted(config, model)
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
        with record_function("optimiser"):  # for benchmarks/profile_step.py
            torch.nn.utils.clip_grad_norm_(trained, settings.max_grad_norm)
            optimizer.step()
        return loss.item()

    return run, weights


def converted(config: TrainConfig, model: TorchVLJEPA) -> Any:
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
