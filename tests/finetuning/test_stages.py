"""``vljepa finetune`` from a table to a run, with a tiny model and two steps."""

import csv
import dataclasses
import io
import json
import re

import jax
import numpy as np
import pytest

import vljepa_jax
from tests.helpers.published_twins import write_bert
from tests.helpers.random_run import random_params, save_run
from tests.helpers.sample_media import encode, numbered_frames
from tests.helpers.tiny import tiny_train_config, tiny_y_decoder_config
from vljepa_jax import terminal
from vljepa_jax.config import ConfigError
from vljepa_jax.data.tokenizers import Tokenizer
from vljepa_jax.finetuning import stages
from vljepa_jax.finetuning.recipes import (
    Request,
    best_step,
    decoder_steps,
    training_size,
    vljepa_recipe,
)
from vljepa_jax.finetuning.stages import finetune
from vljepa_jax.finetuning.tables import TableError
from vljepa_jax.inference.search.index import VideoIndex
from vljepa_jax.models.parts import PARTS
from vljepa_jax.objectives import make_objective
from vljepa_jax.run_dir import load_config, load_params, newest, save_params
from vljepa_jax.training.optimizer import make_optimizer
from vljepa_jax.training.train_loop import NonFiniteLoss


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """A VL-JEPA with its Y-Decoder, both random."""
    folder = tmp_path_factory.mktemp("start")
    config = tiny_train_config()
    save_run(folder, config, random_params(config))
    decoder = tiny_y_decoder_config()
    params, _ = make_objective(decoder).init(jax.random.key(0))
    read = load_params(folder)[1]
    params |= {name: read[name] for name in PARTS["y_encoder"]}
    save_params(folder / "y_decoder", decoder, params)
    return folder


@pytest.fixture
def table(tmp_path):
    """Twelve clips with a caption and one of two labels, and one that is not there."""
    with open(tmp_path / "clips.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["video", "caption", "label"])
        for index in range(12):
            encode(tmp_path / f"{index}.mp4", numbered_frames(4)[:, :, : 64 - 2 * index])
            writer.writerow([f"{index}.mp4", f"clip {index}", "even" if index % 2 else "odd"])
        writer.writerow(["none.mp4", "no clip", "odd"])
    return tmp_path / "clips.csv"


def run(request, workdir):
    out = io.StringIO()
    finetune(request, workdir, terminal.PlainConsole(file=out, width=120))
    return out.getvalue()


def request_for(table, start, **settings):
    return Request(data=str(table), checkpoint=str(start), steps=2, **settings)


@pytest.mark.parametrize(
    ("examples", "size"),
    [(6, (60, 4)), (42, (60, 32)), (128, (60, 128)), (2_560, (400, 128)), (10**6, (2000, 128))],
)
def test_steps_come_from_the_number_of_examples(examples, size):
    assert training_size(examples) == size
    assert training_size(examples, 7) == (7, size[1])


def test_a_y_decoder_that_goes_on_sees_few_texts_few_times():
    assert [decoder_steps(n, rows) for n, rows in ((1, 1), (42, 32), (2_560, 128))] == [5, 7, 100]


def test_the_best_kept_step_is_the_last_of_the_highest(tmp_path):
    for step in (2, 4, 6):
        (tmp_path / f"checkpoints/{step}").mkdir(parents=True)
        (tmp_path / f"checkpoints/{step}/_CHECKPOINT_METADATA").write_text("{}")
    rows = [{"step": s, "eval/x": v} for s, v in ((1, 0.9), (2, 0.5), (4, 0.5), (6, 0.4))]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert best_step(tmp_path, "eval/x") == 4
    assert best_step(tmp_path, "loss") == 6


def made(table, start, workdir, **settings):
    """The object that runs the stages, at the dataset's stage, and the dataset."""
    request = request_for(table, start, **settings)
    console = terminal.PlainConsole(file=io.StringIO())
    run = stages._Finetuning(request, workdir, console)
    workdir.mkdir(exist_ok=True)
    return run, run._dataset()


def test_the_training_is_the_recipe_s_for_the_start_s_model(table, start, tmp_path):
    _, dataset = made(table, start, tmp_path / "run")
    assert dataset.splits == {"train": 8, "validation": 2, "test": 2}
    source = load_config(start)
    config = vljepa_recipe(request_for(table, start), dataset, start, source)
    assert config.model == source.model
    longest = max(map(len, Tokenizer("@world").encode_whole(["even", "odd", "clip 10", "clip 8"])))
    assert source.data.text.target_length > longest == config.data.text.target_length
    assert dataclasses.replace(config.data.text, target_length=0) == dataclasses.replace(
        source.data.text, target_length=0
    )
    assert (config.steps, config.batch_size) == (2, 16)
    assert config.data.visual_tokens == "cache"
    assert (config.data.video.sampling, config.data.video.crop) == ("uniform", "centre")
    assert config.checkpoint.best_metric == "eval/clips/classification_top1"
    assert config.checkpoint.patience == 5  # of the ten checkpoints that there are
    assert [source.balanced for source in config.data.sources] == [True]
    (evaluation,) = config.evaluations
    assert [(b.name, b.split) for b in evaluation.benchmarks] == [
        ("clips/classification", "validation"),
        ("clips/t2v", "validation"),
    ]
    rules = {rule.pattern: rule for rule in config.optimizer.rules}
    assert rules["^x_encoder/|^token_embedding/"].frozen
    trained = vljepa_recipe(request_for(table, start, video="train"), dataset, start, source)
    first, second, *_ = trained.optimizer.rules  # norms and biases of the X-Encoder go with it
    assert (first.pattern, first.frozen) == ("^x_encoder/", False)
    assert (second.pattern, second.frozen) == ("^token_embedding/", False)
    assert trained.data.visual_tokens == "compute"
    assert trained.data.video.sampling == "jittered"
    worded = vljepa_recipe(request_for(table, start, text="x", frames=2), dataset, start, source)
    assert worded.data.video.frames == 2
    larger = vljepa_recipe(request_for(table, start, image_size=64), dataset, start, source)
    assert larger.data.video.image_size == 64 == 2 * source.data.video.image_size
    params = jax.eval_shape(make_objective(worded).init, jax.random.key(0))[0]
    _, frozen = make_optimizer(worded.optimizer, worded.steps, params).split(params)
    assert frozen.keys() == {"x_encoder", "token_embedding", "y_encoder", "y_head"}


def test_questions_that_are_longer_than_the_start_s_are_not_cut(table, tmp_path):
    start, source = tmp_path / "start", tiny_train_config()
    lines = table.read_text().splitlines()
    asked = "is there anything at all in this very short clip that is not black or white or gray?"
    header, *rows = (f"{line},{asked},{index % 2}" for index, line in enumerate(lines))
    table.write_text("\n".join([header.replace(f"{asked},0", "question,answer"), *rows]) + "\n")
    _, dataset = made(table, start, tmp_path / "run")
    config = vljepa_recipe(request_for(table, start), dataset, start, source)
    (tokens,) = Tokenizer("@world").encode_whole([asked])
    assert source.data.text.query_length < len(tokens) == config.data.text.query_length


def test_a_text_encoder_takes_the_place_of_the_y_encoder_once(table, start, tmp_path):
    run, dataset = made(table, start, tmp_path / "run", text=str(write_bert(tmp_path / "bert")))
    changed = run._with_text(start, dataset)
    assert changed == tmp_path / "run/start_text"
    config, params = load_params(changed)
    assert config.model.y_encoder.family == "bert"
    model = vljepa_jax.load(changed)
    assert model.embed_text(["odd", "even"]).shape == (2, config.model.embedding_size)
    before = load_params(start)[1]
    np.testing.assert_array_equal(*(tree["predictor_head"]["kernel"] for tree in (before, params)))
    made_at = (changed / "config.json").stat().st_mtime_ns
    assert run._with_text(start, dataset) == changed
    assert (changed / "config.json").stat().st_mtime_ns == made_at
    assert made(table, start, tmp_path / "other")[0]._with_text(start, dataset) is start


def test_a_batch_with_more_rows_than_texts_is_told(table, start, tmp_path, monkeypatch):
    """Ten training examples have two labels; with captions there are more texts than rows."""

    def ended(config, path):
        raise NonFiniteLoss("as good as any other end")

    monkeypatch.setattr(stages, "train_to_end", ended)
    told = {}
    for name, columns in (("labels", {"texts": ""}), ("captions", {"label": ""})):
        out = io.StringIO()
        run, dataset = made(table, start, tmp_path / name, columns=columns)
        run._console = terminal.PlainConsole(file=out, width=400)
        with pytest.raises(NonFiniteLoss):
            run._train(start, dataset)
        told[name] = out.getvalue()
    assert (
        "A batch has 8 rows, and all training examples together have 2 different" in told["labels"]
    )
    assert told["captions"] == ""


@pytest.mark.parametrize(
    ("asked", "told"),
    [({"image_size": 20}, "height = 20: V-JEPA 2 takes"), ({"frames": 3}, "frames = 3: V-JEPA 2")],
)
def test_what_the_x_encoder_does_not_take_is_refused_at_once(table, start, tmp_path, asked, told):
    """And binds the workdir to nothing."""
    with pytest.raises(ConfigError, match=f"--frames, --image_size: {told}"):
        finetune(
            request_for(table, start, **asked), _made(tmp_path / "run"), terminal.PlainConsole()
        )
    assert not (tmp_path / "run" / "dataset").exists()
    with pytest.raises(ConfigError, match="height = 10"):  # without a start, it is the demo's
        finetune(Request(data=str(table), image_size=10), tmp_path / "run", terminal.PlainConsole())


def test_a_workdir_of_other_data_is_refused(table, start, tmp_path):
    workdir = tmp_path / "run"
    stages._begin(request_for(table, start), _made(workdir))
    stages._begin(request_for(table, start, seed=1), workdir)  # nothing was made yet
    stages._begin(request_for(table, start), workdir)
    (workdir / "dataset").mkdir()
    stages._begin(request_for(table, start, num_workers=3), workdir)  # changes nothing
    settings = json.loads((workdir / "settings.json").read_text())
    del settings["image_size"], settings["frames"]  # as those of earlier versions
    (workdir / "settings.json").write_text(json.dumps(settings))
    stages._begin(request_for(table, start), workdir)
    with pytest.raises(ConfigError, match=r"image_size: 0 -> 64"):
        stages._begin(request_for(table, start, image_size=64), workdir)
    with pytest.raises(ConfigError, match=r"(?s)other data or settings.*seed.*0.*1.*another --wor"):
        stages._begin(request_for(table, start, seed=1), workdir)
    table.write_text(table.read_text() + "0.mp4,again,odd\n")
    with pytest.raises(ConfigError, match="content"):
        stages._begin(request_for(table, start), workdir)
    with pytest.raises(ConfigError, match="holds .*, and was not made by this command"):
        stages._begin(request_for(table, start), start)
    with pytest.raises(TableError, match="no file or folder 'nowhere'"):
        stages._begin(request_for("nowhere", start), _made(tmp_path / "other"))


def _made(folder):
    folder.mkdir()
    return folder


@pytest.mark.slow  # half a minute: four programs are compiled
def test_finetuning_leaves_a_run_and_goes_on_where_it_was_ended(
    table, start, tmp_path, monkeypatch
):
    workdir = tmp_path / "run"
    train = stages.train_to_end

    def ended(config, path):
        train(config, path)
        raise NonFiniteLoss("as good as any other end")

    monkeypatch.setattr(stages, "train_to_end", ended)
    with pytest.raises(NonFiniteLoss):
        run(request_for(table, start), workdir)
    assert "row 13: there is no file" in (workdir / "skipped.txt").read_text()
    assert newest(workdir) is None
    prepared = (workdir / "dataset/dataset.json").stat().st_mtime_ns
    monkeypatch.setattr(stages, "train_to_end", train)
    told = run(request_for(table, start), workdir)
    assert (workdir / "dataset/dataset.json").stat().st_mtime_ns == prepared
    assert (workdir / "before/report.html").is_file()
    assert (workdir / "report.html").is_file()

    # The run is that of the best checkpoint, and other weights than the start's.
    step = best_step(workdir / "training", "eval/clips/classification_top1")
    best, kept = load_params(workdir / "training", step=step)[1], load_params(workdir)[1]
    jax.tree.map(np.testing.assert_array_equal, best, kept)
    assert load_config(workdir).data.text == load_config(start).data.text  # for texts as long
    before = load_params(start)[1]
    assert np.abs(before["predictor_head"]["kernel"] - kept["predictor_head"]["kernel"]).max() > 0
    np.testing.assert_array_equal(
        *(tree["x_encoder"]["patch_embedding"]["kernel"] for tree in (before, kept))
    )

    # It classifies, writes, and finds.
    model = vljepa_jax.load(workdir)
    assert model.text_decoder is not None
    assert isinstance(model.caption(str(table.with_name("3.mp4"))), str)
    assert (workdir / "labels.txt").read_text() == "even\nodd\n"
    assert len(VideoIndex(workdir / "index")) == 12
    assert re.search(r"held-out clips +┃ chance ┃ before ┃ after", told)
    assert re.search(r"│ clips/classification_top1 +│ +50.0 │", told)

    monkeypatch.setattr(stages, "write_evaluation", None)  # nothing is done a second time
    again = run(request_for(table, start), workdir)
    assert again.splitlines()[-3:] == told.splitlines()[-3:]
    assert re.search(r"clips that had not changed +│ 12", again)


def test_a_y_decoder_is_no_start(table, start, tmp_path):
    with pytest.raises(ConfigError, match="trained objective 'y_decoder', and no VL-JEPA"):
        run(request_for(table, start / "y_decoder"), tmp_path / "run")


def test_a_dataset_of_this_package_is_taken_as_it_is(table, start, tmp_path):
    _, dataset = made(table, start, tmp_path / "first")
    run, same = made(dataset.directory, start, tmp_path / "second")
    assert same.splits == dataset.splits
    assert not (tmp_path / "second/dataset").exists()
    assert dataclasses.replace(run._request, data="x") == request_for("x", start)
