"""Training of the Y-Decoder: its rows, its loss, its noise, and where it starts from."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.helpers.random_run import random_params as vljepa_params
from tests.helpers.random_run import save_run
from tests.helpers.tiny import tiny_train_config, tiny_y_decoder_config
from tests.helpers.trained import trained_losses
from vljepa_jax import run_dir
from vljepa_jax.config import ConfigError
from vljepa_jax.data.pipeline import TrainPipeline, array_spec
from vljepa_jax.data.tokenizers import Tokenizer, TokenizerError
from vljepa_jax.models.vljepa import VLJEPA
from vljepa_jax.models.y_decoder import YDecoder, add_noise
from vljepa_jax.objectives import make_objective
from vljepa_jax.parallel.sharding import make_mesh
from vljepa_jax.training import checkpoint
from vljepa_jax.training.train_step import Trainer


def random_params(config, seed=0):
    params, _ = jax.eval_shape(make_objective(config).init, jax.random.key(0))
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda x: jnp.asarray(rng.normal(0, 0.3, x.shape), x.dtype), params)


@pytest.fixture(scope="module")
def config():
    return tiny_y_decoder_config()


@pytest.fixture(scope="module")
def arrays(config):
    return next(iter(TrainPipeline(config).batches(0))).arrays


@pytest.mark.parametrize("predicted", [False, True])
def test_batches_are_as_specified(predicted):
    config = tiny_y_decoder_config(predicted=predicted)
    batch = next(iter(TrainPipeline(config).batches(0))).arrays
    assert ("video" in batch) == predicted
    assert {name: (a.shape, a.dtype) for name, a in batch.items()} == array_spec(config)


def test_a_row_is_one_text_for_both_sides_and_ends_where_it_is_not_cut(config, arrays):
    tokenizer = Tokenizer("@world")
    whole = 0
    for row in range(config.batch_size):
        tokens = arrays["tokens"][row][arrays["mask"][row]]
        target = arrays["target_tokens"][row][arrays["target_mask"][row]]
        ended = tokens[-1] == 2
        assert ended or len(tokens) == 20
        text = tokens[:-1] if ended else tokens
        shared = min(len(text), len(target) - 1)  # the Y-Encoder's begins with [BOS]
        assert shared > 0
        np.testing.assert_array_equal(text[:shared], target[1 : 1 + shared])
        whole += ended
        assert tokenizer.decode(tokens) == tokenizer.decode(text)
    assert whole > 0


def test_tokens_become_the_text_again():
    tokenizer = Tokenizer("@world")
    texts = ["A red car drives to the left.", "yes", "two", "it's 3, or [EOS]!"]
    ids, mask = tokenizer.encode_ended(texts, 40, tokenizer.special_id("[EOS]"))
    assert [tokenizer.decode(row[kept]) for row, kept in zip(ids, mask, strict=True)] == texts
    assert [int((row == 2).sum()) for row in ids] == [1, 1, 1, 1]  # spelt out, it is text
    cut, kept = tokenizer.encode_ended(texts[:1], 4, 2)
    np.testing.assert_array_equal(cut[0], ids[0, :4])
    assert kept.all()
    with pytest.raises(TokenizerError, match=r"no special token '</s>', only \[PAD\], \[BOS\]"):
        tokenizer.special_id("</s>")


def test_noise_has_the_length_and_the_cosine_that_it_says():
    """Of 1,000 draws in 400 dimensions: 1 % and 0.01."""
    rng = np.random.default_rng(0)
    units = rng.standard_normal((1000, 400)).astype(np.float32)
    units /= np.linalg.norm(units, axis=1, keepdims=True)
    for level in (0.5, 2.0):
        noisy = np.asarray(add_noise(jnp.asarray(units), level, jax.random.key(1)))
        np.testing.assert_allclose(np.linalg.norm(noisy, axis=1), 1, atol=1e-5)
        cosine = (noisy * units).sum(axis=1)
        assert np.mean(cosine) == pytest.approx((1 + level**2) ** -0.5, abs=0.01)
    untouched = add_noise(jnp.asarray(units), 0.0, jax.random.key(1))
    np.testing.assert_allclose(untouched, units, atol=1e-6)


def test_the_loss_is_that_of_the_tokens_after_the_noisy_embedding(config, arrays):
    """Against float64 sums over the logits of the decoder, 1e-5."""
    objective, key = make_objective(config), jax.random.key(3)
    params = random_params(config)
    represented = objective.represent(params, {}, arrays, key)
    found, metrics = objective.loss(params, represented, arrays, key, None)
    embedded = VLJEPA(config.model.vljepa).apply(
        {"params": params}, arrays["target_tokens"], arrays["target_mask"], method="encode_text"
    )
    level_key, noise_key = jax.random.split(key)
    level = 0.5 * jax.random.uniform(level_key, (len(embedded), 1))
    assert float(level.std()) > 0.05  # one a row
    noisy = add_noise(embedded, level, noise_key)
    logits = YDecoder(config.model).apply(
        {"params": params}, noisy, arrays["tokens"], arrays["mask"]
    )
    logits = np.asarray(logits, np.float64)
    nll, count = 0.0, 0
    for row, column in zip(*np.nonzero(arrays["mask"]), strict=True):
        scores = logits[row, column]
        nll += np.log(np.exp(scores).sum()) - scores[arrays["tokens"][row, column]]
        count += 1
    assert float(found) == pytest.approx(nll / count, rel=1e-5)
    assert float(metrics["perplexity"]) == pytest.approx(np.exp(nll / count), rel=1e-4)
    other = objective.represent(params, {}, arrays, jax.random.key(4))
    assert np.abs(objective.loss(params, other, arrays, key, None)[0] - found) > 1e-6  # other noise


def test_predictions_take_the_place_of_texts(arrays):
    config = tiny_y_decoder_config(predicted=True)
    config = dataclasses.replace(config, model=dataclasses.replace(config.model, noise=0.0))
    objective, params = make_objective(config), random_params(config)
    batch = next(iter(TrainPipeline(config).batches(0))).arrays
    found = objective.represent(params, {}, batch, jax.random.key(0))
    fields = ("video", "query_tokens", "query_mask", "target_tokens", "target_mask")
    seen = VLJEPA(config.model.vljepa).apply({"params": params}, {f: batch[f] for f in fields})
    logits = YDecoder(config.model).apply(
        {"params": params}, seen.predicted, batch["tokens"], batch["mask"]
    )
    nll = -jnp.take_along_axis(jax.nn.log_softmax(logits), batch["tokens"][..., None], -1)[..., 0]
    np.testing.assert_allclose(found.nll, jnp.sum(nll, 1, where=batch["mask"]), rtol=1e-5)


def test_what_cannot_be_is_refused(config):
    def model(**changed):
        return dataclasses.replace(config, model=dataclasses.replace(config.model, **changed))

    ahead = dataclasses.replace(config.model.y_decoder, causal=False)
    with pytest.raises(ConfigError, match=r"model\.y_decoder\.causal"):
        make_objective(model(y_decoder=ahead))
    with pytest.raises(ConfigError, match="prefix_tokens must be at least 1"):
        make_objective(model(prefix_tokens=0))
    rules = config.optimizer.rules[1:]
    thawed = dataclasses.replace(config.optimizer, rules=rules)
    with pytest.raises(ConfigError, match="y_encoder, y_head must be frozen"):
        make_objective(dataclasses.replace(config, optimizer=thawed))


def test_it_starts_from_the_y_encoder_of_a_vljepa_and_a_decoder_of_another_run(config, tmp_path):
    vljepa = tiny_train_config()
    params = vljepa_params(vljepa)
    save_run(tmp_path / "vljepa", vljepa, params)
    decoder = random_params(config, seed=5)
    run_dir.save_params(tmp_path / "decoder", config, decoder)

    def start(config, init_from):
        trainer = Trainer(config, make_objective(config), make_mesh(config.sharding))
        return checkpoint.initial_state(
            init_from, trainer.init, trainer.init_extra, trainer.abstract_state
        ).params

    both = f"{tmp_path}/vljepa:y_encoder,{tmp_path}/decoder:y_decoder"
    found = start(config, both)
    expected = {name: params[name] for name in ("y_encoder", "y_head")}
    expected |= {n: decoder[n] for n in ("y_prefix", "y_token_embedding", "y_decoder")}
    jax.tree.map(np.testing.assert_array_equal, found, expected)
    alone = start(config, f"{tmp_path}/vljepa:y_encoder")
    jax.tree.map(np.testing.assert_array_equal, alone["y_head"], params["y_head"])
    assert np.abs(alone["y_prefix"]["kernel"] - decoder["y_prefix"]["kernel"]).max() > 1e-3
    whole = start(
        tiny_y_decoder_config(predicted=True),
        f"{tmp_path}/vljepa:vljepa,{tmp_path}/decoder:y_decoder",
    )
    jax.tree.map(np.testing.assert_array_equal, whole, params | expected)

    with pytest.raises(ConfigError, match="y_encoder, y_head would come from two runs"):
        start(config, f"{tmp_path}/vljepa:y_encoder,{tmp_path}/decoder:y_encoder")
    with pytest.raises(ConfigError, match="':params' is not one of x_encoder"):
        start(config, f"{tmp_path}/vljepa:y_encoder,{tmp_path}/decoder:params")
    with pytest.raises(ConfigError, match="has no x_encoder"):
        start(config, f"{tmp_path}/vljepa:x_encoder")
    with pytest.raises(
        run_dir.CheckpointError,
        match="y_decoder/layers/attention/key/kernel: absent in the checkpoint",
    ):
        start(config, f"{tmp_path}/vljepa:y_decoder")


def test_training_lowers_the_loss_and_leaves_the_y_encoder(tmp_path):
    config = tiny_y_decoder_config(steps=30, batch_size=16)
    losses = trained_losses(config, tmp_path / "run")
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])
    fresh, _ = make_objective(config).init(jax.random.key(config.seed))
    _, trained = run_dir.load_params(tmp_path / "run")
    for name in ("y_encoder", "y_head"):
        close = functools.partial(np.testing.assert_allclose, atol=1e-6)
        jax.tree.map(close, fresh[name], trained[name])
