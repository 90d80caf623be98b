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
