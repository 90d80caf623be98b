"""A family of text encoders that the package does not know: a config class, a module and a row."""

import dataclasses

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from tests.helpers.random_run import random_params
from tests.helpers.tiny import tiny_train_config
from vljepa_jax.data.tokenizers import Tokenizer
from vljepa_jax.inference.model import Model
from vljepa_jax.models import text_encoder
from vljepa_jax.training.run_log import read_metrics
from vljepa_jax.training.train_loop import train


@dataclasses.dataclass(frozen=True)
class ToyConfig:
    """A bag of words."""

    vocab_size: int
    hidden_size: int = 12
    family: str = "toy"


class Toy(nn.Module):
    """The mean of the words' rows in a table."""

    config: ToyConfig
    dtype: object
    remat: str
    unroll: bool

    @nn.compact
    def __call__(self, tokens, mask):
        rows = nn.Embed(self.config.vocab_size, self.config.hidden_size)(tokens)
        count = jnp.maximum(mask.sum(axis=1, keepdims=True), 1)
        return jnp.where(mask[..., None], rows, 0).sum(axis=1) / count


def toy_config(**overrides):
    config = tiny_train_config(**overrides)
    encoder = ToyConfig(vocab_size=Tokenizer("@world").vocab_size)
    return dataclasses.replace(config, model=dataclasses.replace(config.model, y_encoder=encoder))


def test_a_vljepa_embeds_texts_with_it(monkeypatch):
    monkeypatch.setitem(text_encoder.TEXT_ENCODERS, "toy", Toy)
    config = toy_config()
    params = random_params(config)
    ids, _ = Tokenizer("@world").encode(["a dog"], 8)
    kept = ids[0, : len(Tokenizer("@world").encode_whole(["a dog"])[0])]
    pooled = params["y_encoder"]["Embed_0"]["embedding"][kept].mean(axis=0)
    expected = pooled @ params["y_head"]["kernel"] + params["y_head"].get("bias", 0)
    found = Model(config, params).embed_text("a dog")[0]
    np.testing.assert_allclose(found, expected / np.linalg.norm(expected), atol=1e-5)


def test_a_vljepa_trains_on_it(monkeypatch, tmp_path):
    monkeypatch.setitem(text_encoder.TEXT_ENCODERS, "toy", Toy)
    train(toy_config(steps=2), tmp_path / "run")
    assert [row["step"] for row in read_metrics(tmp_path / "run")] == [1, 2]
