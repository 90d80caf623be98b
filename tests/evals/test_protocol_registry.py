"""The table of protocols, and that nothing outside a protocol's module names it."""

import ast
import dataclasses
import pkgutil
from pathlib import Path
from typing import Literal

import pytest

from tests.evals.test_evaluate import benchmark, dataset, datasets
from tests.helpers.colour_model import ColourModel
from vljepa_jax.config import PROTOCOLS
from vljepa_jax.config.protocols import ProtocolEntry
from vljepa_jax.evals.benchmarks import select_benchmarks
from vljepa_jax.evals.evaluate import evaluate
from vljepa_jax.evals.gallery import make_galleries
from vljepa_jax.evals.protocols.base import Needs, Option, Outcome, Protocol, Scores, among_first

__all__ = ["dataset", "datasets"]  # fixtures
ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", PROTOCOLS)
def test_a_row_is_complete(name):
    entry = PROTOCOLS[name]
    assert {f.name: f.default for f in dataclasses.fields(entry.parameters)}["name"] == name
    protocol = pkgutil.resolve_name(entry.protocol)
    assert issubclass(protocol, Protocol)
    assert protocol.__module__ == f"vljepa_jax.evals.protocols.{name}"
    assert protocol.intro


def test_no_other_file_names_a_protocol():
    """Of string constants; "caption" is a task and a kind of annotations too."""
    own = ROOT / "vljepa_jax/evals/protocols"
    folders = ("vljepa_jax/evals", "vljepa_jax/inference", "vljepa_jax/commands")
    modules = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    classes = {entry.parameters.__name__ for entry in PROTOCOLS.values()}
    faults = []
    for path in modules:
        if own in path.parents:
            continue
        lines = path.read_text().splitlines()
        for node in ast.walk(ast.parse(path.read_text())):
            name = getattr(node, "value", None) if isinstance(node, ast.Constant) else None
            line = lines[node.lineno - 1] if hasattr(node, "lineno") else ""
            as_task = name == "caption" and ("task" in line or "kind" in line)
            of_class = isinstance(node, ast.alias) and node.name in classes
            if of_class or (name in PROTOCOLS and not as_task):
                faults.append(f"{path}:{node.lineno}: {line.strip()}")
    assert len(modules) > 40
    assert not faults
    template = (ROOT / "vljepa_jax/evals/templates/report.html.j2").read_text()
    assert not [name for name in PROTOCOLS if f'"{name}"' in template]


@dataclasses.dataclass(frozen=True)
class ReddestConfig:
    """A protocol that is a row and a module: is a clip redder than its example's first text?"""

    name: Literal["reddest"] = "reddest"


class Reddest(Protocol):
    intro = "Whether red is what the clip has most of."
    suffixes = ("_red",)

    def keep(self, examples):
        return examples[1:]

    def needs(self, examples):
        for example in examples:
            self.require(example, example.clip is not None, "has no media")
        return Needs(frozenset((example.clip, example.query) for example in examples))

    def score(self, examples, embeddings):
        vectors = [embeddings.videos[example.clip, example.query] for example in examples]
        outcomes = tuple(
            Outcome(
                id=example.id,
                clip=example.clip,
                question=example.query,
                options=(Option("red", float(vector[0]), True), Option("no", 0.1, False)),
                gold="red",
                rank=0 if vector.argmax() == 0 else 1,
            )
            for example, vector in zip(examples, vectors, strict=True)
        )
        return Scores(outcomes, {"_red": among_first(outcomes, 1, 1 / 3)})


def test_a_new_protocol_is_one_row_and_one_module(dataset, datasets, monkeypatch):
    row = ProtocolEntry(ReddestConfig, f"{__name__}:Reddest")
    monkeypatch.setitem(PROTOCOLS, "reddest", row)
    asked = benchmark(dataset, "red", ReddestConfig(), "whole", task="caption")
    assert select_benchmarks([asked], ["red_red"]) == (asked,)
    limited = dataclasses.replace(asked, name="one", limit=1)
    everything, one = evaluate(ColourModel(), [asked, limited], datasets)
    # "red", "green" and "blue", of which the first is not kept
    assert [outcome.correct for outcome in everything.outcomes] == [False, False]
    assert (everything.metrics["red_red"].value, everything.metrics["red_red"].n) == (0, 2)
    assert [outcome.id for outcome in one.outcomes] == ["green-caption"]  # the limit is of these
    (gallery, _) = make_galleries([everything, one], datasets)
    assert gallery.intro == Reddest.intro
    assert all(card.image and not card.correct and not card.pair for card in gallery.cards)
