"""From a table to an adapted model: the stages of ``vljepa finetune``, each done once.

    settings.json       what this directory was begun with
    rows/ media/        manifests of the splits, and media that the table itself held
    dataset/            prepared of them
    start/              the backbones of the package, where no checkpoint is given
    start_text/         the start with the Y-Encoder that is asked for
    before/             report of the start
    training/           the training, with its checkpoints
    checkpoints/ ...    the run that it leaves: the best of these, with report.html
    y_decoder/          what writes its texts; y_decoder_text/ and y_decoder_start/ before it
    index/              to search the clips

What is there already is not made again: the same command goes on where it was ended.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import rich.console
import rich.table

from vljepa_jax.config import ConfigError, differences
from vljepa_jax.config.saved import in_present_form
from vljepa_jax.convert.published import BUNDLED, backbone_directory, convert_checkpoint
from vljepa_jax.data.collection import list_items
from vljepa_jax.data.manifest import open_manifest
from vljepa_jax.data.media_files import media_files
from vljepa_jax.data.pipeline import target_shares
from vljepa_jax.data.prepare import prepare
from vljepa_jax.data.records import shown
from vljepa_jax.data.storage import Dataset, is_dataset, open_dataset
from vljepa_jax.data.tokenizers import WORLD_TOKENIZER
from vljepa_jax.evals import page, report
from vljepa_jax.evals.run import write_evaluation
from vljepa_jax.finetuning.columns import choose_columns, read_examples
from vljepa_jax.finetuning.recipes import (
    Request,
    asked_video,
    base_recipe,
    best_step,
    decoder_recipe,
    evaluation,
    vljepa_recipe,
)
from vljepa_jax.finetuning.splits import TEST, TRAIN, VALIDATION, split_examples
from vljepa_jax.finetuning.tables import TableError, open_table
from vljepa_jax.finetuning.text_encoder import with_text_encoder
from vljepa_jax.inference.load import load
from vljepa_jax.inference.model import require_vljepa
from vljepa_jax.inference.search.collection import embed_collection
from vljepa_jax.json_text import read_json
from vljepa_jax.ownership import owned
from vljepa_jax.places import file_stamp, write_text
from vljepa_jax.run_dir import load_config, load_params, newest, save_params
from vljepa_jax.training.train_loop import train_to_end

_BACKBONES = ("x_encoder", "predictor", "y_encoder")
_SHOWN_FAULTS = 20


def finetune(request: Request, workdir: Path, console: rich.console.Console) -> None:
    """Makes ``workdir`` a run that knows the user's clips, with its reports and index.

    Raises:
        TableError: the data cannot be used; the message says what to mend.
        ConfigError: ``workdir`` was begun with another request, or the checkpoint is no VL-JEPA.
        CheckpointError, DatasetError, ...: see what is called.
    """
    workdir = workdir.absolute()
    with owned(workdir, name=".finetune.lock"):
        _begin(request, workdir)
        _Finetuning(request, workdir, console).run()


def _begin(request: Request, workdir: Path) -> None:
    """Notes the request, or compares it with that which ``workdir`` was begun with.

    What ended before there was a dataset, as by a fault of the table, binds to nothing.
    """
    data = Path(request.data).absolute()
    if not data.exists():
        raise TableError(f"--data: there is no file or folder '{shown(request.data)}'")
    settings = dataclasses.asdict(request) | {"data": str(data), "content": _stamp(data)}
    if request.text:
        settings["text"] = str(Path(request.text).absolute())
    settings.pop("num_workers")
    settings = json.loads(json.dumps(settings))
    path = workdir / "settings.json"
    bound = any((workdir / made).exists() for made in ("dataset", "before"))
    if path.is_file() and bound:
        if faults := differences(_in_present_form(read_json(path, dict)), settings):
            raise ConfigError(
                f"'{workdir}' was begun with other data or settings (then -> now):\n  "
                + "\n  ".join(faults)
                + "\nTake another --workdir, or remove that one."
            )
        return
    others = [entry.name for entry in workdir.iterdir() if not entry.name.startswith(".")]
    if others and not path.is_file():
        raise ConfigError(
            f"--workdir: '{workdir}' holds {', '.join(sorted(others)[:3])}, and was not made by "
            "this command; name a new directory"
        )
    write_text(path, json.dumps(settings, indent=2) + "\n")


def _in_present_form(saved: dict[str, Any]) -> dict[str, Any]:
    """Settings that an earlier version saved, with the fields added since."""
    content = saved.pop("content", None)
    request = in_present_form(Request, saved)
    request.pop("num_workers", None)
    return request | {"content": content}


def _stamp(data: Path) -> str:
    """Changes with the data, as far as is seen without reading it."""
    if data.is_file():
        return file_stamp(data)
    names = [*sorted(os.listdir(data)), *media_files(str(data), [])]
    return hashlib.sha256("\n".join(names).encode(errors="surrogateescape")).hexdigest()[:16]


class _Finetuning:
    def __init__(self, request: Request, workdir: Path, console: rich.console.Console) -> None:
        self._request = request
        self._workdir = workdir
        self._console = console

    def run(self) -> None:
        self._check_video()
        self._stage("Data")
        dataset = self._dataset()
        start = self._with_text(self._start(dataset), dataset)
        self._stage("Before")
        before = self._evaluated(start, dataset, self._workdir / "before")
        self._stage("VL-JEPA")
        self._train(start, dataset)
        self._stage("Y-Decoder")
        self._train_y_decoder(start, dataset)
        self._stage("After")
        after = self._evaluated(self._workdir, dataset, self._workdir)
        self._stage("Index")
        self._embed(dataset)
        self._console.print(_compared(before, after))

    def _check_video(self) -> None:
        """Refuses at once what the start's X-Encoder would refuse after the data is prepared."""
        if self._request.checkpoint:
            source = load_config(Path(self._request.checkpoint))
            require_vljepa(source)
        else:
            source = base_recipe(self._request, self._request.data)
        video = asked_video(self._request, source.data.video)
        asked = dataclasses.replace(source, data=dataclasses.replace(source.data, video=video))
        try:
            _ = asked.token_grid
        except ConfigError as error:
            raise ConfigError(f"--frames, --image_size: {error}") from error

    def _stage(self, name: str) -> None:
        self._console.print(f"\n{name}", style="bold")

    # -----------------------------------------------------------------------------------------
    # Data
    # -----------------------------------------------------------------------------------------
    def _dataset(self) -> Dataset:
        """The dataset, prepared if it is not there."""
        if is_dataset(self._request.data):
            dataset = open_dataset(self._request.data)
            if missing := {TRAIN, TEST} - dataset.splits.keys():
                raise TableError(
                    f"'{shown(self._request.data)}' is a dataset without the split "
                    f"'{min(missing)}': launch/prepare.py --manifest={TRAIN}=FILE "
                    f"--manifest={TEST}=FILE makes one with both"
                )
            return dataset
        directory = self._workdir / "dataset"
        if not directory.exists():
            self._write_rows()
            prepare(
                [
                    open_manifest(str(path), split=path.stem, root=None)
                    for path in self._manifests()
                ],
                directory,
                name=self._workdir.name,
                on_error="skip",
                embed=False,
                num_workers=self._request.num_workers,
                console=self._console,
            )
        return open_dataset(directory)

    def _manifests(self) -> list[Path]:
        return [self._workdir / "rows" / f"{split}.jsonl" for split in (TRAIN, VALIDATION, TEST)]

    def _write_rows(self) -> None:
        shutil.rmtree(self._workdir / "rows", ignore_errors=True)  # of a table that was at fault
        for name in ("labels.txt", "skipped.txt"):
            (self._workdir / name).unlink(missing_ok=True)
        request = self._request
        table = open_table(request.data, request.root)
        columns = choose_columns(table, request.columns)
        told = ", ".join(f"{role} of '{column}'" for role, column in columns.items())
        self._console.print(f"columns: {told}", highlight=False, soft_wrap=True)
        found = read_examples(table, columns, self._workdir / "media")
        self._tell_faults(found.faults)
        splits = split_examples(found.examples, request.held_out, request.seed)
        labels = self._workdir / "rows" / "labels"
        labels.mkdir(parents=True, exist_ok=True)
        for name, texts in found.labels.items():
            sets = [{"id": text, "texts": [text]} for text in texts]
            write_text(labels / f"{name}.json", json.dumps(sets, indent=1) + "\n")
        if texts := found.labels.get("labels"):
            write_text(self._workdir / "labels.txt", "".join(f"{text}\n" for text in texts))
        for path in self._manifests():
            rows = [
                json.dumps(row.as_json()) + "\n"
                for example, split in zip(found.examples, splits, strict=True)
                if split == path.stem
                for row in example.rows
            ]
            write_text(path, "".join(rows))

    def _tell_faults(self, faults: Sequence[tuple[int, str]]) -> None:
        """Rows that were left out, on the screen and in skipped.txt."""
        if not faults:
            return
        lines = [shown(f"row {number}: {reason}") for number, reason in faults]
        write_text(self._workdir / "skipped.txt", "".join(f"{line}\n" for line in lines))
        for line in lines[:_SHOWN_FAULTS]:
            self._console.print(line, style="yellow", highlight=False, soft_wrap=True)
        self._console.print(
            f"{len(faults)} rows are left out, all listed in {self._workdir / 'skipped.txt'}",
            style="yellow",
            highlight=False,
            soft_wrap=True,
        )

    # -----------------------------------------------------------------------------------------
    # Training
    # -----------------------------------------------------------------------------------------
    def _start(self, dataset: Dataset) -> Path:
        """The run that training starts from."""
        if self._request.checkpoint:
            return Path(self._request.checkpoint).absolute()
        start = self._workdir / "start"
        if newest(start) is None:
            (start / "config.json").unlink(missing_ok=True)  # of a conversion that was killed
            directories = {part: backbone_directory(part, BUNDLED) for part in _BACKBONES}
            config = base_recipe(self._request, dataset.directory)
            # Heads made of fewer texts than the space has directions could tell no others apart.
            enough = len(target_shares(config)) >= config.model.embedding_size
            convert_checkpoint(config, directories, start, self._console, align=enough)
        return start

    def _with_text(self, start: Path, dataset: Dataset) -> Path:
        """The start with the Y-Encoder that the user names, if any."""
        if not self._request.text:
            return start
        changed = self._workdir / "start_text"
        if newest(changed) is None:
            (changed / "config.json").unlink(missing_ok=True)  # of a start that was killed
            texts = target_shares(base_recipe(self._request, dataset.directory))
            directory = Path(self._request.text).absolute()
            made = with_text_encoder(*load_params(start), directory, texts, self._console)
            save_params(changed, *made)
        return changed

    def _train(self, start: Path, dataset: Dataset) -> None:
        """Trains, and makes ``workdir`` the run of the best checkpoint."""
        if newest(self._workdir) is not None:
            return
        source = load_config(start)
        require_vljepa(source)
        config = vljepa_recipe(self._request, dataset, start, source)
        targets = len(target_shares(config))
        if targets < config.batch_size:
            self._console.print(
                f"A batch has {config.batch_size} rows, and all training examples together have "
                f"{targets} different texts: a row is told apart from {targets - 1} others at "
                "most, as equal texts are no negatives. Captions teach more than few labels.",
                style="yellow",
            )
        training = self._workdir / "training"
        train_to_end(config, training)
        step = best_step(training, config.checkpoint.best_metric)
        self._console.print(f"The checkpoint of step {step} of {config.steps} is kept.")
        for name in ("metrics.jsonl", "train.json"):
            shutil.copy(training / name, self._workdir)
        (self._workdir / "config.json").unlink(missing_ok=True)  # of a start that was killed
        trained, params = load_params(training, step=step)
        # Its texts may be as long as the start's, and not just as these.
        text = trained.data.text
        text = dataclasses.replace(text, target_length=source.data.text.target_length)
        data = dataclasses.replace(trained.data, text=text)
        save_params(self._workdir, dataclasses.replace(trained, data=data), params)

    def _train_y_decoder(self, start: Path, dataset: Dataset) -> None:
        """Trains what writes texts of the new embeddings, from the start's own where there is one.

        The start's by itself would not do: the Y-Encoder that it reads has changed.
        """
        workdir = self._workdir
        checkpoint = self._request.checkpoint
        # Another Y-Encoder was fitted into the same space, which the start's decoder reads.
        before = (Path(checkpoint).absolute() if checkpoint else start) / "y_decoder"
        own = newest(before) is not None
        embedded = load_config(workdir)
        if not own and embedded.data.text.query_tokenizer != WORLD_TOKENIZER:
            self._console.print(
                "No Y-Decoder: the package has none for this model. configs/y_decoder_1b.py trains "
                "one for the paper's (docs/decoding.md).",
                style="yellow",
            )
            return
        if not own:
            before = workdir / "y_decoder_text"
            first = workdir / "y_decoder_start"
            config = decoder_recipe("", self._request, dataset, embedded, None)
            if newest(first) is None:
                (first / "config.json").unlink(missing_ok=True)
                bundled = {"y_decoder": backbone_directory("y_decoder", BUNDLED)}
                convert_checkpoint(config, bundled, first, self._console)
            origin = f"{workdir}:y_encoder,{first}:y_decoder"
            train_to_end(dataclasses.replace(config, init_from=origin), before)
        config = decoder_recipe("predicted", self._request, dataset, embedded, load_config(before))
        origin = f"{workdir}:vljepa,{before}:y_decoder"
        train_to_end(dataclasses.replace(config, init_from=origin), workdir / "y_decoder")

    # -----------------------------------------------------------------------------------------
    # What it can do
    # -----------------------------------------------------------------------------------------
    def _evaluated(self, run: Path, dataset: Dataset, output: Path) -> Mapping[str, Any]:
        """The metrics of a run on what is held out, measured if they are not there."""
        if not (output / "report.html").is_file():  # which is written last
            output.mkdir(exist_ok=True)
            config = evaluation(dataset)
            model = load(run, frames=config.frames, batch_size=config.batch_size)
            write_evaluation(
                model,
                config,
                config.benchmarks,
                output,
                skip_empty=True,
                cache=output / "embeddings",
            )
        return report.read_report(output)["metrics"]

    def _embed(self, dataset: Dataset) -> None:
        if is_dataset(self._request.data):
            sources = [dataset.directory]
        else:
            sources = [str(path) for path in self._manifests() if path.stat().st_size]
        items, faults = list_items(sources, None)
        embed_collection(
            load(self._workdir),
            items,
            faults,
            self._workdir / "index",
            query="",
            window=0.0,
            stride=0.0,
            drop_missing=False,
            num_workers=self._request.num_workers,
            console=self._console,
        )


def _compared(before: Mapping[str, Any], after: Mapping[str, Any]) -> rich.table.Table:
    """A metric a row, of the clips that were held out."""
    table = rich.table.Table(rich.table.Column("held-out clips", overflow="fold"))
    for column in ("chance", "before", "after", "n"):
        table.add_column(column, justify="right")
    for name, metric in after.items():
        old, unit = before.get(name), metric["unit"]
        values = (metric["chance"], old and old["value"], metric["value"])
        table.add_row(name, *(page.shown(value, unit) for value in values), str(metric["n"]))
    return table
