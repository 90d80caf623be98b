import subprocess
import sys
from pathlib import Path

import pytest

from vljepa_jax.config import ConfigError
from vljepa_jax.config.command_line import check_field

RECIPE = {
    "steps": 3,
    "optimizer": {
        "learning_rate": 0.1,
        "beta1": 0.9,
        "rules": ({"pattern": "a", "lr_multiplier": 1.0}, {"pattern": "b", "lr_multiplier": 1.0}),
    },
    "world": {"frames": 8},
    "data": {"video": {"frames": 4}, "scaling": None},
}


@pytest.mark.parametrize(
    "field",
    ["steps", "optimizer.beta1", "optimizer.rules[1].lr_multiplier", "optimizer.rules", "data"],
)
def test_known_fields_pass(field):
    check_field(RECIPE, field)


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ("stepz", "unknown field 'stepz' (did you mean 'steps'?)"),
        ("optimizer.beta", "(did you mean 'optimizer.beta1'?)"),
        ("learning_rate", "(did you mean 'optimizer.learning_rate'?)"),
        ("data.frames", "(did you mean 'data.video.frames'?)"),
        ("optimiser.beta1", "(did you mean 'optimizer."),
        ("optimizer.rules[1].lr_multiplie", "(did you mean 'optimizer.rules[1].lr_multiplier'?)"),
        ("optimizer.rules[2].lr_multiplier", "'optimizer.rules' has 2 entries"),
        ("steps.more", "'steps' is a value"),
        ("xyz", "'config' has steps, optimizer, world, data"),
        ("data.scaling", "'data.scaling' is None"),
    ],
)
def test_unknown_fields_are_answered(field, message):
    with pytest.raises(ConfigError) as refused:
        check_field(RECIPE, field)
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["search.py", "--index=x", b"caf\xe9"], b"'caf\\udce9' is not"),
        (["embed.py", "--checkpoint=x", "--videos=x", "--output=x", b"--query=\xe9"], b"--query="),
    ],
)
def test_texts_that_are_not_in_the_systems_encoding_are_refused(arguments, told):
    script, *rest = arguments
    command = [sys.executable, f"launch/{script}", *rest]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True)
    assert done.returncode == 1
    assert b"must be text in the encoding of the system" in done.stderr
    assert told in done.stderr
    assert b"Traceback" not in done.stderr
