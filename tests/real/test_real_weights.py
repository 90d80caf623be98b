"""SmolLM2-135M-Instruct and all-MiniLM-L6-v2 as published, against the libraries they come from.

What tiny models with random weights cannot show: real files, real vocabularies, deep stacks.
"""

import copy
import json
import os
import subprocess
import sys
from pathlib import Path

import flax.linen as nn
import numpy as np
import pytest

from tests.helpers.twins import error, errors, run
from vljepa_jax import run_dir
from vljepa_jax.config import LlamaConfig
from vljepa_jax.convert.families import backbone
from vljepa_jax.data.tokenizers import Tokenizer
from vljepa_jax.inference.generate import greedy
from vljepa_jax.models import layers
from vljepa_jax.models.llama import KVCache, Llama

pytestmark = pytest.mark.real
torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("gguf")
import tests.helpers.reference_twins as reference  # noqa: E402
from tests.programs.real_weights import MINILM, SMOLLM2, fetch  # noqa: E402

ROOT = Path(__file__).parents[2]
RECIPE = "configs/vljepa_open.py"
STRINGS = json.loads((ROOT / "tests/parity/awkward_strings.json").read_text())
SENTENCES = [
    "A dog runs over the meadow.",
    "a puppy is running across the grass",
    "Two people cut vegetables in a kitchen",
    "someone chops carrots",
    "The stock market fell on Tuesday.",
    "",
]


def command(*arguments):
    found = subprocess.run(
        [sys.executable, *map(str, arguments)], cwd=ROOT, capture_output=True, text=True
    )
    assert found.returncode == 0, found.stdout + found.stderr
    return found.stdout


@pytest.fixture(scope="module")
def weights():
    """Name -> directory; kept from one session to the next."""
    return fetch(Path(os.environ.get("VLJEPA_REAL_WEIGHTS", ROOT / ".cache/real_weights")))


@pytest.fixture(scope="module")
def tokenizers(weights):
    """Flags of a recipe that name the tokenizers, by the prefix of ``data.text``."""

    def flags(prefix=""):
        names = {"query_tokenizer": SMOLLM2, "target_tokenizer": MINILM}
        return [
            f"--config.data.text.{prefix}{field}={weights[name]}/tokenizer.json"
            for field, name in names.items()
        ]

    return flags


@pytest.fixture(scope="module")
def converted(weights, tokenizers, tmp_path_factory):
    """(config, parameters, run directory) of :small with both; its X-Encoder is random."""
    path = tmp_path_factory.mktemp("real") / "vljepa"
    told = command(
        "launch/convert.py",
        f"--config={RECIPE}:small",
        f"--predictor={weights[SMOLLM2]}",
        f"--y_encoder={weights[MINILM]}",
        f"--output={path}",
        *tokenizers(),
    )
    assert "135 left out: the model holds layers 15 to 29" in told
    assert "2 left out: sentence-transformers pools tokens instead" in told
    return *run_dir.load_params(path), path


@pytest.fixture(scope="module")
def decoder(weights, tokenizers, tmp_path_factory):
    """(config of SmolLM2 whole, its parameters with the token table)."""
    path = tmp_path_factory.mktemp("real") / "decoder"
    command(
        "launch/convert.py",
        f"--config={RECIPE}:small_y_decoder",
        f"--y_decoder={weights[SMOLLM2]}",
        f"--output={path}",
        f"--config.data.text.tokenizer={weights[SMOLLM2]}/tokenizer.json",
        *tokenizers("embedded."),
    )
    config, params = run_dir.load_params(path)
    return config.model.y_decoder, backbone(params, "y_decoder")


@pytest.fixture(scope="module")
def smollm2(weights):
    return transformers.AutoModelForCausalLM.from_pretrained(
        weights[SMOLLM2], dtype=torch.float32, attn_implementation="eager"
    ).eval()


@pytest.fixture(scope="module")
def minilm(weights):
    library = pytest.importorskip("sentence_transformers")
    return library.SentenceTransformer(str(weights[MINILM]), device="cpu")


def token_ids(tokenizer, texts):
    """Ids and mask, padded on the right."""
    whole = tokenizer.encode_whole(texts)
    return dict(zip(("tokens", "mask"), tokenizer.encode(texts, max(map(len, whole))), strict=True))


def told(found):
    print({name: f"{value:.1e}" for name, value in found.items()})
    return max(found.values())


def test_smollm2_in_every_layer(decoder, smollm2, weights):
    config, params = decoder
    tokenizer = Tokenizer(str(weights[SMOLLM2] / "tokenizer.json"))
    inputs = token_ids(tokenizer, [text for text in STRINGS + SENTENCES if text])
    theirs = reference.run_llama(smollm2.model, **inputs, causal=True)
    assert told(errors(run(config, params, inputs), theirs)) < 1e-4


def test_the_predictor_is_the_last_half_without_the_mask(converted, smollm2, weights):
    config, params, _ = converted
    tokenizer = Tokenizer(str(weights[SMOLLM2] / "tokenizer.json"))
    inputs = token_ids(tokenizer, SENTENCES[:5])
    model = copy.deepcopy(smollm2.model)
    model.layers = model.layers[15:]
    model.config.num_hidden_layers = 15
    theirs = reference.run_llama(model, **inputs, causal=False)
    ours = run(config.model.predictor, backbone(params, "predictor"), inputs)
    assert told(errors(ours, theirs)) < 1e-4


class Continued(nn.Module):
    """SmolLM2 as ``inference.generate`` writes with it: prompts of one length."""

    config: LlamaConfig

    def setup(self):
        size = (self.config.vocab_size, self.config.hidden_size)
        self.token_embedding = layers.TokenTable(*size)
        self.llama = Llama(self.config)

    def start(self, tokens, room):
        cache = KVCache.empty(self.config, len(tokens), tokens.shape[1] + room, np.float32)
        return self._read(tokens, cache)

    def extend(self, tokens, cache):
        return self._read(tokens[:, None], cache)

    def _read(self, tokens, cache):
        hidden, cache = self.llama(self.token_embedding(tokens), None, cache)
        return self.token_embedding.attend(hidden[:, -1]), cache


@pytest.mark.parametrize(
    "prompt", ["The capital of France is", "def fibonacci(n):\n", "In 1969, the first"]
)
def test_greedy_text_of_smollm2(decoder, smollm2, weights, prompt):
    config, params = decoder
    tokenizer = Tokenizer(str(weights[SMOLLM2] / "tokenizer.json"))
    (ids,) = tokenizer.encode_whole([prompt])
    end, count = tokenizer.special_id("<|im_end|>"), 24
    placed = {"token_embedding": params["token_embedding"]}
    placed["llama"] = {name: tree for name, tree in params.items() if name != "token_embedding"}
    written = greedy(Continued(config), placed, ids[None], count, end).tokens[0]
    theirs = smollm2.generate(
        torch.tensor(ids[None], dtype=torch.long),
        attention_mask=torch.ones(1, len(ids)),
        max_new_tokens=count,
        do_sample=False,
    )[0, len(ids) :].tolist()
    ours = np.asarray(written).tolist()[: len(theirs)]
    print(repr(prompt + tokenizer.decode(ours)))
    assert ours == theirs
    if "France" in prompt:  # the file was dequantised rightly, not only read alike
        assert "Paris" in tokenizer.decode(ours)


@pytest.mark.parametrize("name", [SMOLLM2, MINILM])
def test_tokens_of_awkward_strings(weights, name):
    theirs = transformers.AutoTokenizer.from_pretrained(weights[name])
    found = Tokenizer(str(weights[name] / "tokenizer.json")).encode_whole(STRINGS)
    for text, ids in zip(STRINGS, found, strict=True):
        assert ids.tolist() == theirs(text)["input_ids"], text


def test_minilm_embeds_and_compares_as_sentence_transformers(converted, minilm, weights):
    config, params, _ = converted
    texts = [text for text in STRINGS if text] + SENTENCES
    inputs = token_ids(Tokenizer(str(weights[MINILM] / "tokenizer.json")), texts)
    ours = run(config.model.y_encoder, params["y_encoder"], inputs)["output"]
    theirs = minilm.encode(texts)
    assert told({"embeddings": error(ours, theirs)}) < 1e-5
    similarities = minilm.similarity(theirs, theirs).numpy()
    assert told({"similarities": error(ours @ ours.T, similarities)}) < 1e-5
    dog, puppy, kitchen, carrots, market, _ = ours[-len(SENTENCES) :]
    assert dog @ puppy > 2 * max(dog @ kitchen, dog @ market)
    assert kitchen @ carrots > 2 * kitchen @ market


def test_exports_load_there_again(converted, minilm, smollm2, tmp_path):
    config, _, path = converted
    command("launch/convert.py", f"--checkpoint={path}", f"--export={tmp_path / 'out'}")
    library = pytest.importorskip("sentence_transformers")
    again = library.SentenceTransformer(str(tmp_path / "out/y_encoder"), device="cpu")
    assert told({"MiniLM": error(again.encode(SENTENCES), minilm.encode(SENTENCES))}) < 1e-5
    model, found = transformers.AutoModel.from_pretrained(
        tmp_path / "out/predictor", output_loading_info=True, dtype=torch.float32
    )
    assert not found["missing_keys"]
    assert not found["unexpected_keys"]
    assert model.config.num_hidden_layers == config.model.predictor.num_layers
    for own, published in zip(model.layers, smollm2.model.layers[15:], strict=True):
        for name, tensor in own.state_dict().items():
            assert torch.equal(tensor, published.state_dict()[name]), name
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "out/predictor")
    assert tokenizer("Hello world")["input_ids"] == [19556, 905]
