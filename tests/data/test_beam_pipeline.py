"""The same bytes by Apache Beam; it runs where the extra "beam" is installed."""

import pytest

from tests.helpers.training_files import contents, image, write_lines
from vljepa_jax.data.checked_media import MediaCheck
from vljepa_jax.data.share_writer import ShareJob, ShareOptions
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
