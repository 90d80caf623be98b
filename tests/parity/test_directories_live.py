"""What we export, loaded by transformers; what transformers saves, loaded by us."""

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

import chex
import jax
import numpy as np
import pytest
import safetensors.numpy
from rich.console import Console

from tests.helpers.published_twins import bert_config, twin_config, write_all
from tests.helpers.twins import (
    BERT_TWIN,
    GEMMA_TWIN,
    LLAMA_TWIN,
    QWEN3_TWIN,
    TOLERANCE,
    VJEPA2_TWIN,
    error,
    errors,
    parameters,
    run,
    shapes,
)
from vljepa_jax import run_dir
from vljepa_jax.config.saved import read_saved
from vljepa_jax.convert.export import export_backbone, export_checkpoint
from vljepa_jax.convert.families import backbone
from vljepa_jax.convert.published import (
    BUNDLED,
    backbone_directory,
    convert_checkpoint,
    read_backbone,
)
from vljepa_jax.data.tokenizers import Tokenizer
from vljepa_jax.objectives import make_objective

pytestmark = pytest.mark.parity
torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
import tests.helpers.reference_twins as reference  # noqa: E402

BARE_GEMMA = dataclasses.replace(GEMMA_TWIN, dense_sizes=())


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """(model config, parameters, directory of the export)."""
    path = tmp_path_factory.mktemp("export")
    config, console = twin_config(path), Console(quiet=True)
    (path / "published").mkdir()
    convert_checkpoint(config, write_all(path / "published"), path / "run", console)
    export_checkpoint(path / "run", path / "out", console)
    return config.model, run_dir.load_params(path / "run")[1], path / "out"


def load(directory):
    model, found = transformers.AutoModel.from_pretrained(
        directory, output_loading_info=True, attn_implementation="eager", dtype=torch.float32
    )
    missing = {key for key in found["missing_keys"] if not key.startswith("predictor.")}
    assert not missing, "V-JEPA 2's own predictor alone is not ours to export"
    assert not found["unexpected_keys"]
    return model.eval()


def compare(exported, part, inputs, theirs):
    model, params, _ = exported
    found = errors(run(getattr(model, part), backbone(params, part), inputs), theirs)
    print({name: f"{value:.1e}" for name, value in found.items()})
    assert max(found.values()) < TOLERANCE, found


@pytest.mark.parametrize(
    ("part", "twin"),
    [
        ("x_encoder", VJEPA2_TWIN),
        ("predictor", LLAMA_TWIN),
        ("y_encoder", BARE_GEMMA),
        ("y_encoder", QWEN3_TWIN),
    ],
)
def test_what_transformers_saves_is_read(tmp_path, part, twin):
    """Its config.json has the keys of today, the Hub's files those of older versions."""
    config = twin_config(tmp_path)
    config = dataclasses.replace(config, model=dataclasses.replace(config.model, **{part: twin}))
    model = {
        "vjepa2": reference.vjepa2_reference,
        "llama": lambda config: reference.llama_reference(config, config.num_layers),
        "gemma": reference.gemma_reference,
        "qwen3": reference.qwen3_reference,
    }[twin.family](twin)
    weights = reference.weights_of(model, seed=1)
    model.save_pretrained(tmp_path / part, max_shard_size="5KB")
    assert (tmp_path / part / "model.safetensors.index.json").exists()
    filled, faults = read_backbone(config, part, tmp_path / part, shapes(twin))
    assert not faults
    chex.assert_trees_all_equal(filled.tree, parameters(twin, weights))


def texts(vocab_size):
    tokens = np.random.default_rng(2).integers(0, vocab_size, (3, 11)).astype(np.int32)
    return {"tokens": tokens, "mask": np.arange(11) < np.c_[[11, 6, 1]]}


def test_x_encoder(exported):
    video = np.random.default_rng(1).standard_normal((2, 4, 12, 12, 3)).astype(np.float32)
    model = load(exported[2] / "x_encoder")
    compare(exported, "x_encoder", {"video": video}, reference.run_vjepa2(model, video))


@torch.no_grad()
def test_predictor_attends_in_both_directions_by_its_own_config(exported):
    inputs = texts(exported[0].predictor.vocab_size)
    model = load(exported[2] / "predictor")
    compare(exported, "predictor", inputs, reference.run_llama(model, **inputs, causal=False))
    plain = model(
        torch.tensor(inputs["tokens"], dtype=torch.long),
        attention_mask=torch.tensor(inputs["mask"]).long(),
        use_cache=False,
    ).last_hidden_state.numpy()
    whole = reference.run_llama(model, **inputs, causal=False)["output"]
    np.testing.assert_allclose(plain * inputs["mask"][..., None], whole, atol=1e-4)


def test_y_encoder(exported):
    inputs = texts(exported[0].y_encoder.vocab_size)
    folder = exported[2] / "y_encoder"
    dense = {}
    for name in ("2_Dense", "3_Dense"):
        assert json.loads((folder / name / "config.json").read_text())["bias"] is False
        weights = safetensors.numpy.load_file(folder / name / "model.safetensors")
        dense[f"{name}/linear.weight"] = weights["linear.weight"]
    theirs = reference.run_gemma(load(folder), dense, **inputs)
    compare(exported, "y_encoder", inputs, theirs)


def test_qwen3_as_y_encoder(tmp_path):
    model = dataclasses.replace(twin_config(tmp_path).model, y_encoder=QWEN3_TWIN)
    params = parameters(
        QWEN3_TWIN, reference.weights_of(reference.qwen3_reference(QWEN3_TWIN), seed=3)
    )
    export_backbone(model, "y_encoder", params, tmp_path / "y")
    inputs = texts(QWEN3_TWIN.vocab_size)
    theirs = reference.run_qwen3(load(tmp_path / "y"), **inputs)
    compare((model, {"y_encoder": params}, None), "y_encoder", inputs, theirs)


def test_sentence_transformers_gives_our_embeddings(exported, tmp_path):
    """Texts in: its tokenizer, pooling and dense modules, from the files alone."""
    library = pytest.importorskip("sentence_transformers")
    model, params, folder = exported
    theirs = library.SentenceTransformer(str(folder / "y_encoder"), device="cpu")
    sentences = ["the dog moves left", "cat", "a cat moves up the right"]
    tokenizer = Tokenizer(twin_config(tmp_path).data.text.target_tokenizer)
    tokens, mask = tokenizer.encode(sentences, 10)
    ours = run(model.y_encoder, params["y_encoder"], {"tokens": tokens, "mask": mask})["output"]
    assert error(ours, theirs.encode(sentences)) < TOLERANCE

    model = dataclasses.replace(model, y_encoder=QWEN3_TWIN)
    weights = reference.weights_of(reference.qwen3_reference(QWEN3_TWIN), seed=3)
    params = parameters(QWEN3_TWIN, weights)
    export_backbone(model, "y_encoder", params, tmp_path / "q")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(folder / "y_encoder" / name, tmp_path / "q" / name)
    theirs = library.SentenceTransformer(str(tmp_path / "q"), device="cpu")
    ours = run(QWEN3_TWIN, params, {"tokens": tokens, "mask": mask})["output"]
    assert error(ours, theirs.encode(sentences)) < TOLERANCE


@pytest.mark.parametrize(
    ("pooling", "normalised"), [("mean", True), ("cls", False), ("lasttoken", True), ("max", False)]
)
def test_a_sentence_transformers_model_there_and_back(tmp_path, pooling, normalised):
    """What that library saves is read; it reads what is exported; both embed alike."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Normalize, Transformer
    from sentence_transformers.sentence_transformer.modules import Pooling

    config = bert_config(tmp_path)
    own = dataclasses.replace(BERT_TWIN, pooling=pooling, normalised=normalised)
    text = dataclasses.replace(config.data.text, target_prompt="the ")
    config = dataclasses.replace(
        config,
        model=dataclasses.replace(config.model, y_encoder=own),
        data=dataclasses.replace(config.data, text=text),
    )
    bare = reference.bert_reference(own)
    weights = reference.weights_of(bare, seed=3)
    bare.save_pretrained(tmp_path / "bare")
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_file=text.target_tokenizer, pad_token="[PAD]"
    )
    tokenizer.save_pretrained(tmp_path / "bare")
    modules = [Transformer(str(tmp_path / "bare")), Pooling(own.hidden_size, pooling)]
    library = SentenceTransformer(
        modules=[*modules, *([Normalize()] if normalised else [])],
        prompts={"document": "the ", "query": "a "},
        default_prompt_name="document",
        device="cpu",
    )
    library.save_pretrained(str(tmp_path / "saved"))
    filled, faults = read_backbone(config, "y_encoder", tmp_path / "saved", shapes(own))
    assert not faults
    chex.assert_trees_all_equal(filled.tree, parameters(own, weights))

    console = Console(quiet=True)
    convert_checkpoint(config, {"y_encoder": tmp_path / "saved"}, tmp_path / "run", console)
    export_checkpoint(tmp_path / "run", tmp_path / "out", console)
    sentences = ["dog moves left", "cat", "a cat moves up the right"]
    tokens, mask = Tokenizer(text.target_tokenizer).encode(["the " + s for s in sentences], 10)
    ours = run(own, filled.tree, {"tokens": tokens, "mask": mask})["output"]
    again = SentenceTransformer(str(tmp_path / "out" / "y_encoder"), device="cpu")
    for theirs in (library, again):
        assert error(ours, theirs.encode(sentences)) < 1e-5


def test_original_checkpoints_of_vjepa2(tmp_path):
    """docs/vjepa2_pt_to_safetensors.py on a file of the form of vitl.pt."""
    weights = reference.weights_of(reference.vjepa2_reference(VJEPA2_TWIN), seed=1)
    saved = {"pos_embed": torch.zeros(1, 9, 20)}
    for key, array in weights.items():
        if key.startswith("predictor."):
            continue
        tensor = torch.tensor(array)
        name = key.replace("encoder.layer.", "blocks.").replace("attention.", "attn.")
        name = name.replace("encoder.embeddings.patch_embeddings", "patch_embed")
        name = name.replace("encoder.layernorm", "norm")
        part = next((p for p in ("query", "key", "value") if f".{p}." in name), None)
        if part is None:
            saved[name] = tensor
        elif part == "query":
            parts = [torch.tensor(weights[key.replace("query", p)]) for p in ("key", "value")]
            saved[name.replace("query", "qkv")] = torch.cat([tensor, *parts])
    saved = {f"module.backbone.{key}": tensor for key, tensor in saved.items()}
    torch.save({"target_encoder": saved, "epoch": 3}, tmp_path / "vit.pt")
    script = Path(__file__).parents[2] / "docs/vjepa2_pt_to_safetensors.py"
    command = [sys.executable, script, tmp_path / "vit.pt", tmp_path / "x", "--heads=2"]
    subprocess.run([*command, "--image_size=12"], check=True)
    config = twin_config(tmp_path)
    filled, faults = read_backbone(config, "x_encoder", tmp_path / "x", shapes(VJEPA2_TWIN))
    assert not faults
    expected = parameters(VJEPA2_TWIN, weights)
    chex.assert_trees_all_equal(filled.tree, expected)


def test_a_pickle_that_runs_code_is_refused(tmp_path):
    class Harmful:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"target_encoder": Harmful()}, tmp_path / "vit.pt")
    script = Path(__file__).parents[2] / "docs/vjepa2_pt_to_safetensors.py"
    command = [sys.executable, script, tmp_path / "vit.pt", tmp_path / "x", "--heads=2"]
    answer = subprocess.run(command, capture_output=True, text=True)
    assert answer.returncode != 0
    assert "weights_only" in answer.stderr.lower() or "Weights only" in answer.stderr
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("part", ["x_encoder", "predictor", "y_encoder"])
def test_the_bundled_backbones(part):
    """Read by us and by transformers; what half precision rounded is the same for both."""
    directory = backbone_directory(part, BUNDLED)
    config = read_saved(directory / "recipe.json")
    target, _ = jax.eval_shape(make_objective(config).init, jax.random.key(0))
    filled, faults = read_backbone(config, part, directory, backbone(target, part))
    assert not faults
    model = load(directory)
    if part == "x_encoder":
        side = config.model.x_encoder.image_size
        size = (2, 8, side, side, 3)
        inputs = {"video": np.random.default_rng(1).standard_normal(size, np.float32)}
        theirs = reference.run_vjepa2(model, **inputs)
    elif part == "predictor":
        inputs = texts(1024)
        theirs = reference.run_llama(model, **inputs, causal=True)
    else:
        inputs = texts(1024)
        theirs = reference.run_gemma(model, **inputs, dense={})
    found = errors(run(getattr(config.model, part), filled.tree, inputs), theirs)
    print({name: f"{value:.1e}" for name, value in found.items()})
    assert max(found.values()) < TOLERANCE, found
