"""What ``vljepa finetune --text=DIR`` gains on labels that no training clip has.

    python benchmarks/unseen_labels.py --checkpoint=runs/demo --text=weights/all-minilm-l6-v2 \
        --workdir=runs/unseen_labels --output=docs/figures/unseen_labels.json

Clips of the world with one object each lie in a folder for each object. Objects that have another
name in OTHER_NAMES are kept out of the training: fine-tuning sees the rest, with and without a
published text encoder. Then clips of what was kept out, of the world's test split, are classified
among all these objects: by the names that the world has for them, which the demo has heard, and by
the other names, which are in no text of the world. Processor time and the largest memory are those
of the whole command ``vljepa finetune``. The start itself, with either Y-Encoder, stands beside it;
with --steps=0 alone.
"""

import collections
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from absl import flags

from vljepa_jax.config import command_line
from vljepa_jax.places import write_text

_CHECKPOINT = command_line.define_path("checkpoint", "The run of make demo.", required=True)
_TEXT = command_line.define_path("text", "A published text encoder's folder.", required=True)
_WORKDIR = command_line.define_path("workdir", "Where all of it goes.", required=True)
_OUTPUT = command_line.define_path("output", "The JSON file to write.")
_CLIPS = flags.DEFINE_integer("clips", 4, "Of each class in training.", lower_bound=3)
_TESTED = flags.DEFINE_integer("tested", 6, "Of each class that is kept out.", lower_bound=1)
_STEPS = flags.DEFINE_integer("steps", 30, "Updates of the VL-JEPA.", lower_bound=0)

OTHER_NAMES = {
    "dog": "hound",
    "cat": "kitten",
    "horse": "stallion",
    "pig": "hog",
    "rabbit": "bunny",
    "turtle": "tortoise",
    "crocodile": "alligator",
    "frog": "toad",
    "butterfly": "moth",
    "bee": "wasp",
    "duck": "mallard",
    "parrot": "macaw",
    "sheep": "lamb",
    "hamburger": "cheeseburger",
    "doughnut": "bagel",
    "airplane": "aircraft",
    "helicopter": "chopper",
    "rocket": "spacecraft",
    "sailboat": "yacht",
    "train": "locomotive",
    "fire engine": "fire truck",
    "umbrella": "parasol",
    "guitar": "ukulele",
    "trumpet": "bugle",
    "light bulb": "lamp",
    "chair": "stool",
    "crown": "tiara",
    "gift": "present",
    "soccer ball": "football",
    "robot": "android",
    "ghost": "phantom",
    "house": "cottage",
    "teapot": "kettle",
    "backpack": "rucksack",
    "hammer": "mallet",
    "pencil": "crayon",
}


def main() -> None:
    import vljepa_jax

    workdir = Path(_WORKDIR.value)
    checkpoint = str(Path(_CHECKPOINT.value).absolute())
    footage = workdir / "footage"
    tested = _write_clips(footage, workdir / "kept_out", checkpoint)
    made = {
        "classes": {"trained": len(list(footage.iterdir())), "kept_out": len(OTHER_NAMES)},
        "clips": {"trained": len(list(footage.glob("*/*"))), "tested": len(tested)},
        "steps": _STEPS.value,
        "chance": 1 / len(OTHER_NAMES),
    }
    text = Path(_TEXT.value).absolute()
    starts = {"without": Path(checkpoint), "with": _with_text(checkpoint, text, workdir / "start")}
    for name, start in starts.items():
        made[name] = {"start": _accuracies(vljepa_jax.load(start), tested)}
        print(name, made[name], flush=True)
        if _STEPS.value:
            run, flag = workdir / name, (f"--text={text}",) if name == "with" else ()
            made[name] |= _finetune(footage, run, checkpoint, flag)
            made[name]["finetuned"] = _accuracies(vljepa_jax.load(run), tested)
            print(name, made[name], flush=True)
    text = json.dumps(made, indent=1) + "\n"
    print(text, end="")
    if _OUTPUT.value:
        write_text(Path(_OUTPUT.value), text)


def _write_clips(footage: Path, kept_out: Path, checkpoint: str) -> list[tuple[Path, str]]:
    """Folders of classes, and (file, object) of those that are kept out."""
    tested, counts = [], collections.Counter()
    for split in ("train", "test"):
        for identity, thing, content in _clips_of_one_object(checkpoint, split):
            if (thing in OTHER_NAMES) != (split == "test"):
                continue
            counts[thing] += 1
            if counts[thing] > (_TESTED.value if split == "test" else _CLIPS.value):
                continue
            folder = kept_out if split == "test" else footage
            path = folder / thing.replace(" ", "_") / f"{identity}.mp4"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            if split == "test":
                tested.append((path, thing))
    return tested


def _clips_of_one_object(checkpoint: str, split: str) -> Iterator[tuple[str, str, bytes]]:
    """(id, object, file) of the clips of the world in which one thing is to be seen."""
    from vljepa_jax.data.datasets import find_dataset
    from vljepa_jax.run_dir import load_config

    dataset = find_dataset("@world", load_config(checkpoint).world)
    media = dataset.media(split)
    for record, annotation in dataset.annotations(split):
        tags = annotation.tags
        if tags.get("kind") == "motion" and tags["objects"] == "1":
            found = media[record]
            yield found.id, tags["object"], found.media[annotation.inputs[0]].data


def _with_text(checkpoint: str, text: Path, run: Path) -> Path:
    """The start as ``vljepa finetune --text`` makes it, but for the texts of the data."""
    from vljepa_jax import terminal
    from vljepa_jax.finetuning.text_encoder import with_text_encoder
    from vljepa_jax.run_dir import load_params, newest, save_params

    if newest(run) is None:
        console = terminal.PlainConsole()
        save_params(run, *with_text_encoder(*load_params(checkpoint), text, (), console))
    return run


def _finetune(footage: Path, run: Path, checkpoint: str, flag: tuple[str, ...]) -> dict[str, float]:
    """Runs the command; what it took."""
    command = [
        *(sys.executable, "launch/finetune.py", f"--data={footage}", f"--workdir={run}"),
        *(f"--checkpoint={checkpoint}", f"--steps={_STEPS.value}", "--num_workers=0", *flag),
    ]
    began = time.perf_counter()
    process = subprocess.Popen(command, cwd=Path(__file__).parents[1])
    _, status, used = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"error: vljepa finetune ended with status {status}")
    return {
        "seconds": time.perf_counter() - began,
        "processor_seconds": used.ru_utime + used.ru_stime,
        "peak_mib": used.ru_maxrss / 1024,
    }


def _accuracies(model, tested: list[tuple[Path, str]]) -> dict[str, float]:
    """Top-1 among all that was kept out, by the world's names and by the others."""
    clips = np.asarray(model.embed_video([str(path) for path, _ in tested]))
    gold = np.array([list(OTHER_NAMES).index(thing) for _, thing in tested])
    found = {}
    for kind, names in (("known_names", OTHER_NAMES.keys()), ("other_names", OTHER_NAMES.values())):
        scores = clips @ np.asarray(model.embed_text(list(names))).T
        found[kind] = float(np.mean(scores.argmax(axis=1) == gold))
    return found


if __name__ == "__main__":
    command_line.run(main)
