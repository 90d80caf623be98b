"""The same bytes by Apache Beam; it runs where the extra "beam" is installed."""

import pytest

from tests.helpers.training_files import contents, image, write_lines
from vljepa_jax.data.checked_media import MediaCheck
from vljepa_jax.data.share_writer import ShareJob, ShareOptions
from vljepa_jax.data.shares import SourceError
from vljepa_jax.data.storage import open_dataset
from vljepa_jax.datasets.sft_lines import SFTLines

pytest.importorskip("apache_beam", reason="pip install 'vljepa_jax[beam]'")

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.mark.parametrize("mode", ["in_memory", "multi_processing"])
def test_several_workers_give_the_same_bytes(tmp_path, mode):
    from apache_beam.options.pipeline_options import PipelineOptions

    from vljepa_jax.data.beam_pipeline import run

    root = tmp_path / "source"
    for number in range(6):
        rows = [{"image": "a.png", "text": f"{number}-{row}"} for row in range(9)]
        write_lines(root / f"{number}.jsonl", rows)
    (root / "a.png").write_bytes(image())
    options = ShareOptions("train", MediaCheck(embed=True), "skip")
    jobs = [
        ShareJob.plan(SFTLines({}, str(root)), options, tmp_path / name, "lines", 1)
        for name in ("pool", "beam")
    ]
    list(jobs[0].write(jobs[0].missing(), 0))
    list(jobs[1].write(jobs[1].missing()[:2], 0))  # and Beam goes on
    flags = ["--runner=DirectRunner", "--direct_num_workers=2", f"--direct_running_mode={mode}"]
    assert run(jobs[1], PipelineOptions(flags)) == jobs[0].finish()
    assert contents(jobs[1].output) == contents(jobs[0].output)


@pytest.mark.parametrize("mode", ["in_memory", "multi_processing"])
def test_rows_in_no_order_are_grouped_by_their_media(tmp_path, mode):
    from apache_beam.options.pipeline_options import PipelineOptions

    from vljepa_jax.data.beam_pipeline import group

    root = tmp_path / "source"
    for number in range(4):
        rows = [
            {"image": f"{(7 * row + number) % 5}.png", "text": f"{number}-{row}"}
            for row in range(10)
        ]
        write_lines(root / f"{number}.jsonl", [*rows, b"{no json"])
    for value in range(5):
        (root / f"{value}.png").write_bytes(image(value))
    flags = ["--runner=DirectRunner", "--direct_num_workers=2", f"--direct_running_mode={mode}"]
    source = group(
        SFTLines({"title": "t"}, str(root)), str(tmp_path / "rows"), 3, PipelineOptions(flags)
    )
    expected = {f"{value}.png": set() for value in range(5)}
    for number in range(4):
        for row in range(10):
            expected[f"{(7 * row + number) % 5}.png"].add(f"{number}-{row}")
    options = ShareOptions("train", MediaCheck(embed=False), "skip")
    job = ShareJob.plan(source, options, tmp_path / "out", "lines", 1)
    list(job.write(job.missing(), 0))
    card = job.finish()
    assert (card["source"], card["skipped"]) == ({"title": "t"}, {"no JSON": 4})
    records = list(open_dataset(job.output).records("train"))
    found = {
        record.media[0].path.split("/")[-1]: {text for a in record.annotations for text in a.texts}
        for record in records
    }
    assert len(records) == 5
    assert found == expected
    names = sorted(path.name for path in (tmp_path / "rows").iterdir())
    assert names <= ["00000.rows", "00001.rows", "00002.rows"]
    with pytest.raises(SourceError, match="holds something already"):
        group(SFTLines({}, str(root)), str(tmp_path / "rows"), 3, PipelineOptions(flags))
