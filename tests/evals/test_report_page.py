"""The report pages in a browser: at each width every number can be read, and nothing is cut off.

The pages come from the code that writes them, on a random model and a small world; only what was
measured is replaced, by figures as long as real ones get.
"""

import dataclasses
import itertools
import json
import re
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

from tests.helpers.evaluated import evaluate_run, sweep_run
from tests.helpers.random_run import random_params, save_run
from tests.helpers.tiny import tiny_train_config, tiny_world_config, tiny_y_decoder_config
from vljepa_jax.config import EvalConfig, StreamSet, load_recipe, parse
from vljepa_jax.evals import metrics, probe, run
from vljepa_jax.evals.evaluate import evaluate
from vljepa_jax.evals.examples import ClipRef
from vljepa_jax.evals.streams.run import run_stream_benchmark
from vljepa_jax.objectives import make_objective
from vljepa_jax.run_dir import save_params

pytestmark = pytest.mark.browser

RECIPE = Path(__file__).parents[2] / "configs" / "eval" / "world.py"
WIDTHS = (320, 420, 1200, 1920)
PAGES = ("evaluation", "one_metric", "sweep", "probes")
LONG = "a/dataset-of-somebody-else/with" + "averylongname" * 4
CAVEATS = (
    "uniform decoding is as good at 0.12 per second: a flat curve",
    "as good already at the lowest rate: a lower bound",
    "never as good: an upper bound",
    "",
    "uniform decoding is as good at 0.012 per second: a flat curve",
)
EVERYTHING = """
async () => {
  document.querySelectorAll('details').forEach(details => { details.open = true });
  const pictures = [...document.images];
  pictures.forEach(picture => { picture.loading = 'eager' });
  await Promise.all(pictures.map(picture => picture.decode()));
}
"""

# Every piece of text, by the rectangles that it is drawn in: it must lie inside its own element,
# inside everything that could cut it off, and inside the window. What scrolls sideways cuts off.
CUT_OFF = """
() => {
  const faults = [], width = document.documentElement.clientWidth, slack = 1;
  const told = (what, element) => faults.push(
    `${what}: <${element.localName} class="${element.getAttribute('class') ?? ''}"> ` +
    element.textContent.trim().replace(/\\s+/g, ' ').slice(0, 60));
  if (document.documentElement.scrollWidth > width) told('the page scrolls', document.body);
  for (const element of document.querySelectorAll('body *')) {
    if (element.closest('svg') && element.localName !== 'svg') continue;
    const box = element.getBoundingClientRect();
    if (!box.width) continue;
    if (box.left < -slack || box.right > width + slack) told('outside the window', element);
    const inline = getComputedStyle(element).display === 'inline';
    if (!inline && element.scrollWidth > element.clientWidth + slack) told('scrolls', element);
  }
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const text = walker.currentNode, own = text.parentElement;
    if (!text.data.trim() || own.closest('style, defs, [clip-path]')) continue;
    const range = document.createRange();
    range.selectNodeContents(text);
    for (const part of range.getClientRects()) {
      if (part.left < -slack || part.right > width + slack) told('text outside the window', own);
      for (let box = own; box !== document.body; box = box.parentElement) {
        const style = getComputedStyle(box);
        if (box.closest('svg') ? box.localName !== 'svg' : style.display === 'inline') continue;
        const around = box.getBoundingClientRect();
        if (part.left < around.left - slack || part.right > around.right + slack)
          told('text outside its box', own);
        if (box.localName === 'svg' && part.bottom > around.bottom + slack)
          told('text below its picture', own);
      }
    }
  }
  return [...new Set(faults)];
}
"""

# The rows of all tables: by heading the text of each cell, "" where any of it is hidden or covered.
ROWS = """
() => {
  const seen = cell => {
    const range = document.createRange();
    range.selectNodeContents(cell);
    if (!cell.checkVisibility({opacityProperty: true, visibilityProperty: true})) return '';
    window.scrollTo(0, window.scrollY + range.getBoundingClientRect().top - 300);
    const parts = [...range.getClientRects()].filter(part => part.width && part.height);
    const covered = parts.some(part => {
      const top = document.elementFromPoint(
        (part.left + part.right) / 2, (part.top + part.bottom) / 2);
      return !cell.contains(top);
    });
    return covered || !parts.length ? '' : cell.innerText;
  };
  const split = cell => {
    const mark = cell.querySelector('sup');
    const numbers = {value: '.value', chance: '.chance-of', '95 % interval': '.range', n: '.n'};
    return {
      group: '',
      name: cell.dataset.metric + (mark ? '\u00a0' + seen(mark) : ''),
      cells: Object.entries(numbers).map(([n, where]) => [n, seen(cell.querySelector(where))]),
    };
  };
  return [...document.querySelectorAll('table')].flatMap(table => {
    if (table.matches('.splits')) return [...table.querySelectorAll('[data-metric]')].map(split);
    const headings = [...table.tHead.rows[0].cells].map(cell => cell.textContent.trim());
    return [...table.tBodies].flatMap(body => [...body.rows].slice(1).map(row => ({
      group: body.rows[0].innerText,
      name: seen(row.cells[0]),
      cells: [...row.cells].slice(1).map((cell, i) => [headings[i + 1], seen(cell)]),
    })));
  });
}
"""
NUMBERS = ["value", "chance", "95 % interval", "n"]


def recipe():
    return parse(EvalConfig, load_recipe(RECIPE))


def fabricated(model, benchmarks, datasets):
    """A real evaluation's results with figures of a whole one, and another dataset's besides."""
    rng = np.random.default_rng(0)

    def metric(found):
        if found.unit == "cider":
            return metrics.mean_score(rng.uniform(0, 1000, 700), 28.4, "cider")
        n = int(rng.choice([700, 1400, 12_345]))
        return metrics.proportion(rng.random(n) < rng.choice([0, 0.131, 0.5, 0.873, 1]), 0.125)

    results = [
        dataclasses.replace(result, metrics={n: metric(m) for n, m in result.metrics.items()})
        for result in evaluate(model, benchmarks, datasets)
    ]
    path = "/mnt/disks/of-the-whole-laboratory/prepared-datasets/" + "kitchen" * 9
    clip = ClipRef(path, "test", 12, (0,))
    other = dataclasses.replace(results[0].benchmark, name=LONG, path=path)
    why = f"'{path}/clip-000012.mp4': no frame could be decoded between 3.2 s and 5.2 s"
    found = {f"{LONG}_top1": metric(metrics.proportion([True], 0.5))}
    return [
        *results,
        dataclasses.replace(results[0], benchmark=other, metrics=found, unreadable={clip: why}),
    ]


def measured(model, benchmarks, datasets, output, **how):
    return fabricated(model, benchmarks, datasets), []


def fabricated_streams(*arguments):
    """The study of one stream as if it were of three sets, with each caveat there is."""
    result = run_stream_benchmark(*arguments)
    caveats = itertools.cycle(CAVEATS)

    def study(of):
        reductions = {
            key: dataclasses.replace(
                found,
                value=100.0,
                interval=(0.5, 100.0),
                quality=41.3,
                over_uniform=12.34,
                over_uniform_interval=(0.51, 45.67),
                caveat=next(caveats),
            )
            for key, found in of.reductions.items()
        }
        return dataclasses.replace(of, reductions=reductions, blind=31.9)

    (own,) = result.sets
    parts = [dataclasses.replace(own.part, density=density) for density in (0.4, 0.2, 0.8)]
    made = (dataclasses.replace(own, part=part, study=study(own.study)) for part in parts)
    return dataclasses.replace(result, sets=tuple(made))


def fabricated_probe(run_dir, splits):
    metric = metrics.proportion([True] * 471 + [False] * 229, 0.25)
    return {
        f"{kind}_top1{split.removeprefix('test')}": probe.Score(metric, "@world", split, 3)
        for split in splits
        for kind in ("motion", "object", "an_answer_of_many_words_" * 4)
    }


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    directory = tmp_path_factory.mktemp("runs")
    world = dataclasses.replace(
        tiny_world_config(), train_clips=4, test_clips=32, compositional_clips=32
    )
    stream = dataclasses.replace(
        recipe().stream,
        sets=(StreamSet("poisson", 0.4, 1),),
        ticks_per_second=1.0,
        rates=(1.0, 0.5, 0.1),
    )
    config = dataclasses.replace(recipe(), world=world, stream=stream)
    train, decoder = tiny_train_config(), tiny_y_decoder_config()
    params = random_params(train)
    run_dir = directory / "a_run_of_the_demo_with_another_learning_rate_and_seed"
    save_run(run_dir, train, params)
    own = {part: params[part] for part in ("y_encoder", "y_head")}
    fresh, _ = make_objective(decoder).init(jax.random.key(0))
    save_params(run_dir / "y_decoder", decoder, fresh | jax.tree.map(jax.numpy.asarray, own))
    names = (
        "loss",
        "loss/constant",
        "grad_norm",
        "learning_rate/predictor",
        "target/std",
        "accuracy/to_target",
        "accuracy/to_prediction",
        "examples_per_second",
    )
    rows = [{"step": s} | dict.fromkeys(names, 3.0 / s) for s in range(1, 2_000, 40)]
    (run_dir / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(probe, "score_probe", fabricated_probe)
        probe.write_probe_report(
            directory / "probes",
            dict.fromkeys(("attentive", "linear"), run_dir),
            ("test", "test_compositional"),
            "runs/stage0",
        )
        evaluate_run(run_dir, config, config.benchmarks[-1:], directory / "one_metric")
        patch.setattr(run, "measure", measured)
        patch.setattr(run, "run_stream_benchmark", fabricated_streams)
        chosen = dataclasses.replace(config, benchmarks=config.benchmarks[:1])
        fields = ["frames", "world.seed"]
        settings = [
            ((str(f), str(s)), dataclasses.replace(chosen, frames=f))
            for f in (2, 4)
            for s in range(4)
        ]
        sweep_run(run_dir, fields, settings, directory)
        (directory / "sweep_frames_world.seed").rename(directory / "sweep")
        evaluate_run(run_dir, config, config.benchmarks, directory / "evaluation", stream)
    return directory


@pytest.fixture(scope="module")
def chromium():
    from playwright.sync_api import sync_playwright

    path = shutil.which("chromium")
    assert path, "no chromium on the path: apt-get install chromium"
    quiet = ("gpu", "quic", "background-networking", "component-update", "sync")
    arguments = ["--no-sandbox", "--no-first-run", *(f"--disable-{what}" for what in quiet)]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=arguments)
        yield browser
        browser.close()


@pytest.fixture(params=WIDTHS)
def window(chromium, request):
    page = chromium.new_page(viewport={"width": request.param, "height": 900})
    page.set_default_timeout(300_000)  # of a machine that does much else
    yield page
    page.close()


@pytest.mark.parametrize("name", PAGES)
def test_a_page(window, pages, name):
    told, asked = [], []
    window.on("console", lambda message: told.append(message.text))
    window.on("pageerror", lambda error: told.append(str(error)))
    window.on("requestfailed", lambda request: told.append(request.url))
    window.on("request", lambda request: asked.append(request.url))
    address = (pages / name / "report.html").as_uri()
    window.goto(address)
    window.evaluate(EVERYTHING)
    assert told == []
    assert [url for url in asked if not url.startswith("data:")] == [address]
    assert window.evaluate(CUT_OFF) == []
    report = json.loads((pages / name / "report.json").read_text())
    rows = window.evaluate(ROWS)
    if name == "sweep":
        runs = report["sweep"]["runs"]
        measured = [(m, run["metrics"][m]) for m in runs[0]["metrics"] for run in runs]
        assert [row["group"] for row in rows] == [m for m, _ in measured]
    else:
        measured = [(m := row["name"].split("\xa0")[0], report["metrics"][m]) for row in rows]
        assert sorted(report["metrics"]) == sorted(m for m, _ in measured)
    notes = "\n".join(window.locator(".notes").all_inner_texts())
    for row, (metric, found) in zip(rows, measured, strict=True):
        assert [heading for heading, _ in row["cells"][:4]] == NUMBERS, metric
        shown = [float(n) for _, cell in row["cells"][:4] for n in re.findall(r"[\d.]+", cell)]
        scale = 100 if found["unit"] == "share" else 1
        numbers = [scale * x for x in (found["value"], found["chance"], *found["interval"])]
        digits = 0.005 if found["unit"] == "ratio" else 0.05
        assert shown == pytest.approx([*numbers, found["n"]], abs=digits + 1e-6), metric
        if says := found.get("caveat") or found["unreadable"]:
            mark = row["name"].split("\xa0")[1]
            assert re.search(rf"^{mark} .*{says}\.$", notes, re.MULTILINE), metric
        if found["unit"] == "ratio":
            ((heading, over),) = row["cells"][4:]
            limits = [found["over_uniform"], *found["over_uniform_interval"]]
            assert heading == "over uniform"
            assert [float(n) for n in re.findall(r"[\d.]+", over)] == limits
            for key in ("density", "streams", "cider", "cider_blind"):
                assert f"{found[key]:g}" in row["group"]
