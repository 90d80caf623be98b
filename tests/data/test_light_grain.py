import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
# As launch/train.py: what a command's loading processes import first is the package's commands.
PROGRAM = """
{first}
if __name__ == "__main__":
    import sys
    import numpy as np
    from vljepa_jax.data.workers import in_workers
    def names(chunk):
        import sys
        before = [name in sys.modules for name in ("jax", "orbax.checkpoint", "grain")]
        import jax  # is there all the same
        return [np.array([*before, jax.numpy.arange(3).sum() == 3]) for _ in chunk]
    (found,) = in_workers(names, [0], 1)
    print(found.tolist(), "grain" in sys.modules)
"""


def run(tmp_path, first):
    script = tmp_path / "program.py"
    script.write_text(PROGRAM.format(first=first))
    done = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, cwd=REPOSITORY, check=True,
        env={"PYTHONPATH": str(REPOSITORY), "PATH": "", "JAX_PLATFORMS": "cpu"},
    )  # fmt: skip
    assert "jax profiler" not in done.stderr  # Grain's warning that there is none
    return done.stdout.strip()


def test_the_loading_processes_of_a_command_have_no_jax(tmp_path):
    assert run(tmp_path, "from vljepa_jax import commands") == "[False, False, True, True] True"


def test_those_of_other_programs_are_left_as_they_are(tmp_path):
    assert run(tmp_path, "import jax") == "[True, True, True, True] True"
