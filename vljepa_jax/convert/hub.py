"""The model card of an exported model, as the Hugging Face Hub expects it: README.md and LICENSE.

Source: the Hub's documentation of model cards; its metadata are YAML, of which JSON is a part.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from vljepa_jax.config import ConfigError, ModelConfig, TrainConfig
from vljepa_jax.convert.rules import ConversionError
from vljepa_jax.json_text import JSONError, read_json
from vljepa_jax.places import AnyPath, write_bytes, write_text
from vljepa_jax.run_dir import load_config, require

_FAMILIES = {
    "vjepa2": "V-JEPA 2",
    "vjepa2_1": "V-JEPA 2.1",
    "pe_core_image": "PE-Core",
    "llama": "Llama",
    "gemma": "EmbeddingGemma",
    "qwen3": "Qwen3-Embedding",
    "bert": "BERT",
    "siglip2_text": "SigLIP 2",
    "pe_core_text": "PE-Core",
}


@dataclasses.dataclass(frozen=True)
class Card:
    """What a card says that no run knows.

    Attributes:
        licence: the Hub's identifier of the model's licence, e.g. "apache-2.0".
        licence_file: its text.
    """

    licence: str
    licence_file: Path


def checked_report(run_dir: AnyPath, card: Card) -> Mapping[str, Any]:
    """The report.json of a run's newest checkpoint, which a card is filled from.

    Raises:
        CheckpointError: ``run_dir`` is no run's, or holds no checkpoint.
        ConversionError: the run is no VL-JEPA's; its report is missing, damaged or another
            checkpoint's; there is no file of the licence.
    """
    if not card.licence_file.is_file():
        raise ConversionError([f"license_file: {card.licence_file}: no such file"])
    step = int(require(run_dir).name)
    try:
        config = load_config(run_dir)
    except ConfigError as error:
        raise ConversionError([str(error)]) from error
    if not isinstance(config.model, ModelConfig):
        raise ConversionError([f"objective '{config.objective}': a card is for a VL-JEPA alone"])
    path = run_dir / "report.json"
    evaluate = f"python launch/eval.py --checkpoint={run_dir} writes it"
    if not path.is_file():
        raise ConversionError([f"{path}: is missing; {evaluate}"])
    try:
        report = read_json(path, dict)
    except JSONError as error:
        raise ConversionError([f"{error}; {evaluate}"]) from error
    model, metrics = report.get("model"), report.get("metrics")
    if not (isinstance(model, dict) and isinstance(metrics, dict)):
        raise ConversionError([f"{path}: has no 'model' and 'metrics'; {evaluate}"])
    if model.get("step") != step:
        raise ConversionError(
            [f"{path}: is of step {model.get('step')}, the newest checkpoint of {step}; {evaluate}"]
        )
    return report


def write_card(card: Card, config: TrainConfig, report: Mapping[str, Any], output: Path) -> None:
    """Writes README.md and LICENSE beside an exported model.

    Args:
        config: of the run.
        report: of ``checked_report``.
        output: what it was exported to; its name becomes the model's.
    """
    name = output.resolve().name
    lines = [*_metadata(name, card.licence, report), *_text(name, card.licence, config, report)]
    write_text(output / "README.md", "\n".join(lines) + "\n")
    write_bytes(output / "LICENSE", card.licence_file.read_bytes())


def _metadata(name: str, licence: str, report: Mapping[str, Any]) -> Iterator[str]:
    results = []
    for metric, found in report["metrics"].items():
        if found["value"] is None:  # undefined, as of no examples
            continue
        dataset = {"name": f"{found['path']} ({found['split']})", "type": found["path"].strip("@")}
        measured = {"type": metric, "name": metric, "value": found["value"]}
        task = {"type": "feature-extraction", "name": found["protocol"]}
        results.append({"task": task, "dataset": dataset, "metrics": [measured]})
    settings = {
        "license": licence,
        "library_name": "vljepa_jax",
        "pipeline_tag": "feature-extraction",
        "tags": ["vl-jepa", "video-text", "jax"],
        "model-index": [{"name": name, "results": results}],
    }
    yield "---"
    for key, value in settings.items():
        yield f"{key}: {json.dumps(value)}"
    yield "---"


def _text(name: str, licence: str, config: TrainConfig, report: Mapping[str, Any]) -> Iterator[str]:
    model, train = report["model"], report.get("train", {})
    own = config.model
    video = config.data.video
    yield f"# {_plain(name)}"
    yield ""
    yield (
        "A VL-JEPA (arXiv 2512.10942): it embeds a video or an image, with a question or without,"
        " into the space of the texts that answer."
    )
    yield ""
    yield "```python"
    yield "import vljepa_jax"
    yield ""
    yield f"model = vljepa_jax.load({name!r})  # this directory"
    yield 'model.embed_video("clip.mp4", "What happens here?") @ model.embed_text("a dog runs").T'
    yield "```"
    yield ""
    yield "| part | family | layers | width |"
    yield "|---|---|---|---|"
    for part in ("x_encoder", "predictor", "y_encoder"):
        size = getattr(own, part)
        label = part.replace("_", "-").title()
        family = _FAMILIES.get(size.family, size.family)
        yield f"| {label} | {family} | {size.num_layers} | {size.hidden_size} |"
    yield ""
    yield (
        f"{model['parameters']:,} parameters, embeddings of {own.embedding_size} features, clips of"
        f" {video.frames} frames of {video.image_size} x {video.image_size} pixels. Fingerprint"
        f" `{model['fingerprint']}` (`vljepa_jax.load(...).fingerprint`)."
    )
    yield ""
    yield "## Training"
    yield ""
    sources = ", ".join(f"`{_plain(source.path)}`" for source in config.data.sources)
    yield (
        f"{train.get('steps', config.steps):,} steps of {config.batch_size} rows from {sources},"
        f" seed {config.seed}. `config.json` is the whole recipe."
    )
    yield ""
    yield "## Results"
    yield ""
    yield "| metric | value | chance | examples | dataset |"
    yield "|---|---|---|---|---|"
    for metric, found in report["metrics"].items():
        chance = "" if found.get("chance") is None else f"{found['chance']:.4g}"
        where = f"{_plain(found['path'])}, {_plain(found['split'])}"
        value = "undefined" if found["value"] is None else f"{found['value']:.4g}"
        yield f"| {_plain(metric)} | {value} | {chance} | {found['n']} | {where} |"
    yield ""
    yield "## Licence"
    yield ""
    yield (
        f"`{licence}`, see LICENSE. The terms of the weights that it was trained from, and of its"
        " data, go on to hold."
    )


def _plain(text: str) -> str:
    """A name in a table of Markdown: on one line, and no cell of its own."""
    return re.sub(r"\s+", " ", text).replace("|", "\\|")
