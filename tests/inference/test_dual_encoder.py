"""Published weights of dual encoders where a run is taken: one more implementation of Embedder."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

import vljepa_jax
from tests.helpers.published_towers import (
    published_as,
    write_tower,
    write_tower_tokenizer,
)
from tests.helpers.published_twins import change, golden_weights
from tests.helpers.tower_twins import TWINS, parameters
from vljepa_jax.config import BenchmarkConfig, ConfigError, EvalConfig, load_recipe, parse
from vljepa_jax.data.records import Annotation, Medium, Record
from vljepa_jax.data.storage import write_dataset
from vljepa_jax.data.tokenizers import Tokenizer, TokenizerError
from vljepa_jax.data.video import write_mp4
from vljepa_jax.evals.run import write_evaluation
from vljepa_jax.inference.dual_encoder import FRAMES
from vljepa_jax.models.dual_encoder import DualEncoder
from vljepa_jax.run_dir import CheckpointError

ROOT = Path(__file__).parents[2]
FAMILIES = {"clip": "CLIP", "siglip2": "SigLIP 2", "pe_core": "PE-Core"}


@pytest.fixture
def directory(tmp_path, monkeypatch):
    published_as(monkeypatch)
    return lambda family, **kwargs: write_tower(tmp_path / family, family, **kwargs)


@pytest.mark.parametrize("family", FAMILIES)
def test_texts_and_videos_become_the_towers_embeddings(directory, family):
    config = TWINS[family]
    model = vljepa_jax.load(directory(family))
    params = {"params": parameters(config, golden_weights(family))}
    texts = ["the dog moves left", "", "A CAT"]
    tokenizer = Tokenizer(str(model._source / "tokenizer.json"))
    lowered = [text.lower() for text in texts]
    ids, mask = tokenizer.encode(lowered, config.text.max_length)
    expected = DualEncoder(config).apply(params, ids, mask, method="embed_text")
    found = model.embed_text(texts)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    side = config.image.image_size
    assert (model.video.frames, model.video.image_size) == (FRAMES, side)
    clips = np.random.default_rng(0).integers(0, 256, (3, FRAMES, side, side, 3), np.uint8)
    expected = DualEncoder(config).apply(params, clips, method="embed_video")
    found = model.predict(clips, ["", "what is it?", "a question"])
    np.testing.assert_allclose(found, expected, atol=1e-5)
    # Each in its own row, whatever is asked in which order.
    rows = model.predict_tokens(model.encode_clips(clips), np.array([2, 0, 2]), ["", "", ""])
    np.testing.assert_allclose(rows, np.asarray(expected)[[2, 0, 2]], atol=1e-5)
    assert (
        model.card["kind"] == {"clip": "CLIP", "siglip2": "SigLIP 2", "pe_core": "PE-Core"}[family]
    )
    assert model.history is None


def test_frames_and_fingerprint(directory):
    path = directory("clip")
    model = vljepa_jax.load(path)
    assert vljepa_jax.load(path, frames=3).video.frames == 3
    assert vljepa_jax.load(path, batch_size=1).fingerprint == model.fingerprint
    change(
        path / "model.safetensors", **{"visual_projection.weight": np.ones((10, 18), np.float32)}
    )
    assert vljepa_jax.load(path).fingerprint != model.fingerprint


def test_a_sharded_directory_gives_the_same(directory, tmp_path):
    whole = vljepa_jax.load(directory("siglip2"))
    parts = vljepa_jax.load(write_tower(tmp_path / "shards", "siglip2", shards=3))
    assert parts.fingerprint == whole.fingerprint
    np.testing.assert_array_equal(parts.embed_text("a dog"), whole.embed_text("a dog"))


# ---------------------------------------------------------------------------------------------
# Bad input: one error that names file, key and what is expected
# ---------------------------------------------------------------------------------------------
def message(path, error=CheckpointError):
    with pytest.raises(error) as caught:
        vljepa_jax.load(path)
    return str(caught.value)


def rewrite(path, change_settings):
    settings = json.loads(path.read_text())
    change_settings(settings)
    path.write_text(json.dumps(settings))


def test_naflex_is_refused_by_name(directory):
    path = directory("siglip2")
    rewrite(path / "config.json", lambda s: s.update(model_type="siglip2"))
    assert "config.json: config: 'model_type'" not in message(path)
    assert "config.json: model_type: is 'siglip2', which is a NaFlex checkpoint" in message(path)


def test_unknown_families_are_named(directory):
    path = directory("clip")
    rewrite(path / "config.json", lambda s: s.update(model_type="blip"))
    assert "config.json: model_type: is 'blip', where 'clip' or 'siglip'" in message(path)
    pe = directory("pe_core")

    def other(settings):
        settings["model_cfg"]["vision_cfg"]["timm_model_name"] = "vit_base_patch16_siglip_224"

    rewrite(pe / "open_clip_config.json", other)
    found = message(pe)
    assert "timm_model_name: is 'vit_base_patch16_siglip_224', where one of vit_pe_core" in found


def test_settings_that_the_family_does_not_have(directory):
    path = directory("clip")
    rewrite(path / "config.json", lambda s: s["text_config"].update(hidden_act="gelu"))
    found = message(path)
    assert "config.json: text_config.hidden_act: is 'gelu', where 'quick_gelu' is expected" in found
    rewrite(path / "config.json", lambda s: s["vision_config"].update(hidden_size="wide"))
    assert "'hidden_size' is 'wide', not a whole number" in message(path)
    (path / "config.json").write_text('{"model_type": "clip"')
    assert "is no JSON" in message(path)


@pytest.mark.parametrize(
    ("section", "key", "value", "fault"),
    [
        ("vision_config", "num_attention_heads", 0, "num_heads = 0 must be at least 1"),
        ("text_config", "num_attention_heads", 5, "num_heads = 5 must divide hidden_size = 12"),
        ("vision_config", "image_size", 3, "image_size = 3 is less than patch_size = 4"),
    ],
)
def test_sizes_that_cannot_be(directory, section, key, value, fault):
    path = directory("clip")
    rewrite(path / "config.json", lambda s: s[section].update({key: value}))
    found = message(path)
    assert "config.json: " in found
    assert fault in found


@pytest.mark.parametrize(
    ("section", "key", "value", "fault"),
    [
        ("text_cfg", "width", "wide", "model_cfg.text_cfg.width: is 'wide', where a number"),
        ("text_cfg", "mlp_ratio", [4], "model_cfg.text_cfg.mlp_ratio: is [4], where a number"),
        ("vision_cfg", None, [], "timm_model_name: is None, where one of vit_pe_core"),
        ("preprocess_cfg", "resize_mode", "shortest", "is 'shortest', where 'squash' is expected"),
    ],
)
def test_settings_of_open_clip_that_cannot_be(directory, section, key, value, fault):
    path = directory("pe_core")

    def change_one(settings):
        whole = settings if section == "preprocess_cfg" else settings["model_cfg"]
        whole[section] = value if key is None else whole[section] | {key: value}

    rewrite(path / "open_clip_config.json", change_one)
    assert fault in message(path)


@pytest.mark.parametrize("wrong", [{"frames": -1}, {"batch_size": 0}])
def test_numbers_that_cannot_be(directory, wrong):
    with pytest.raises(ConfigError, match="where a whole number from . on is needed"):
        vljepa_jax.load(directory("clip"), **wrong)


def test_weights_of_another_architecture(directory):
    clip, siglip = directory("clip"), directory("siglip2")
    weights = safetensors.numpy.load_file(siglip / "model.safetensors")
    safetensors.numpy.save_file(weights, clip / "model.safetensors")
    found = message(clip)
    assert f"{clip}: vision_model.head.probe: unknown key" in found
    assert f"{clip}: visual_projection.weight: missing, head/projection/kernel" in found
    rewrite(siglip / "config.json", lambda s: s["vision_config"].update(num_hidden_layers=3))
    assert "vision_model.encoder.layers.2.layer_norm1.bias: missing" in message(siglip)


def test_a_missing_shard_is_named_alone(tmp_path):
    path = write_tower(tmp_path / "shards", "clip", shards=2)
    (path / "model-00002-of-00002.safetensors").unlink()
    found = message(path)
    assert "names the shard model-00002-of-00002.safetensors, which is missing" in found
    assert ": missing, " not in found


def test_tokenizers_of_another_vocabulary(directory):
    path = directory("clip")
    write_tower_tokenizer(path / "tokenizer.json", "clip", size=40)
    found = message(path, TokenizerError)
    assert f"{path}/tokenizer.json: has 40 tokens, where the weights' token table has 31" in found
    (path / "tokenizer.json").unlink()
    assert "holds no tokenizer.json, nor CLIP's vocab.json" in message(path, TokenizerError)
    siglip = directory("siglip2")
    write_tower_tokenizer(siglip / "tokenizer.json", "clip", size=31)
    assert "the id 30, where 0 is expected" in message(siglip, TokenizerError)


# ---------------------------------------------------------------------------------------------
# Through the commands
# ---------------------------------------------------------------------------------------------
@pytest.fixture
def dataset(tmp_path):
    """Six pictures with captions."""
    import io

    from PIL import Image

    rng = np.random.default_rng(1)
    records = []
    for index in range(6):
        file = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (20, 24, 3), np.uint8)).save(file, "PNG")
        annotation = Annotation(f"{index}", "caption", texts=(f"a w{index} dog",))
        records.append(Record(str(index), (Medium(data=file.getvalue()),), (annotation,)))
    path = tmp_path / "pictures"
    write_dataset(path, {"test": records}, name="pictures", description="", labels={})
    return path


def test_evaluators_take_it_as_any_model(directory, dataset, tmp_path):
    config = parse(EvalConfig, load_recipe(ROOT / "configs/eval/clips.py", str(dataset)))
    benchmarks = [b for b in config.benchmarks if b.name == "clips/t2v"]
    assert isinstance(benchmarks[0], BenchmarkConfig)
    model = vljepa_jax.load(directory("pe_core"), batch_size=4)
    write_evaluation(model, config, benchmarks, tmp_path / "report")
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    assert set(report["metrics"]) >= {"clips/t2v_r1", "clips/t2v_r5"}
    assert (tmp_path / "report" / "report.html").is_file()


def test_commands_take_a_directory_of_weights(directory, dataset, tmp_path):
    path = directory("clip")

    def run(script, *arguments):
        command = [sys.executable, str(ROOT / "launch" / f"{script}.py"), *arguments]
        return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)

    evaluated = run(
        "eval",
        f"--config={ROOT}/configs/eval/clips.py:{dataset}",
        f"--model={path}",
        f"--output={tmp_path}/report",
        "--benchmarks=clips/t2v",
    )
    assert evaluated.returncode == 0, evaluated.stdout + evaluated.stderr
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    assert report["model"]["kind"] == "CLIP"
    both = run(
        "eval",
        f"--config={ROOT}/configs/eval/clips.py:{dataset}",
        f"--model={path}",
        f"--checkpoint={path}",
    )
    assert both.returncode != 0
    assert "checkpoint" in both.stderr
    embedded = run(
        "embed",
        f"--model={path}",
        f"--videos={dataset}:test",
        f"--output={tmp_path}/index",
        "--num_workers=0",
    )
    assert embedded.returncode == 0, embedded.stdout + embedded.stderr
    found = run("search", f"--index={tmp_path}/index", "--json", "--fold=1", "a dog")
    assert len(json.loads(found.stdout)) == 6
    labels = tmp_path / "labels.txt"
    labels.write_text("a red ball\nthe green box | a green box\n")
    frames = np.repeat(np.array([[200, 0, 0], [0, 200, 0]], np.uint8), 8, axis=0)
    film = write_mp4([np.full((32, 48, 3), colour, np.uint8) for colour in frames], fps=4)
    (tmp_path / "film.mp4").write_bytes(film)
    flags = [f"--model={path}", f"--source={tmp_path}/film.mp4", "--fast", "--window=1"]
    followed = run("stream", *flags, f"--labels={labels}", f"--jsonl={tmp_path}/events.jsonl")
    assert followed.returncode == 0, followed.stdout + followed.stderr
    events = list(map(json.loads, (tmp_path / "events.jsonl").read_text().splitlines()))
    ticks = [event["change"] for event in events if event["event"] == "tick"]
    assert np.argmax(ticks) in (3, 4)  # a window of the second before or after the cut at 2 s
    said = [event for event in events if event["event"] == "text"]
    assert {event["text"] for event in said} <= {"a red ball", "the green box"}
    # The cosine of the label's mean with the window's frames, by the model itself.
    model = vljepa_jax.load(path)
    labelled = model.classify(
        Medium(path=f"{tmp_path}/film.mp4", start=0, end=1),
        ["a red ball", ("the green box", "a green box")],
    )
    first = {found.text: found.score for found in labelled}
    assert said[0]["scores"] == pytest.approx(first, abs=0.02)  # each segment is a mean of windows
    assert run("stream", *flags).stderr.count("--labels") == 1  # it writes no texts itself
