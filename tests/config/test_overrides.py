import ml_collections
import pytest

from configs import common
from vljepa_jax.config import ConfigError, plain_dict
from vljepa_jax.config.overrides import settings, take_sweeps


@pytest.fixture
def config():
    world = ml_collections.ConfigDict({"seed": 0, "scale": (0.5, 1.0)})
    benchmark = ml_collections.ConfigDict({"limit": 0})
    return ml_collections.ConfigDict({"frames": 0, "world": world, "benchmarks": (benchmark,)})


def test_sweeps_are_taken_out_of_the_arguments():
    argv = ["eval.py", "--sweep.frames=4,8", "--config=a.py", "--sweep.world.scale=(0.5,1.0),(1,2)"]
    assert take_sweeps(argv) == {"frames": ["4", "8"], "world.scale": ["(0.5,1.0)", "(1,2)"]}
    assert argv == ["eval.py", "--config=a.py"]
    with pytest.raises(ConfigError, match="write --sweep.frames=v1,v2"):
        take_sweeps(["eval.py", "--sweep.frames"])


def test_every_combination_with_the_fields_own_types(config):
    runs = list(settings(config, {"frames": ["4", "8"], "benchmarks[0].limit": ["1", "2"]}))
    assert [values for values, _ in runs] == [("4", "1"), ("4", "2"), ("8", "1"), ("8", "2")]
    assert [(c.frames, c.benchmarks[0].limit) for _, c in runs] == [(4, 1), (4, 2), (8, 1), (8, 2)]
    assert config.frames == 0  # the original is left alone
    assert [c.world.seed for _, c in settings(config, {"world.seed": ["7"]})] == [7]


def test_a_wrong_sweep_is_one_clear_error(config):
    with pytest.raises(ConfigError, match="did you mean 'frames'"):
        list(settings(config, {"framez": ["4"]}))
    with pytest.raises(ConfigError, match="--sweep.frames=many"):
        list(settings(config, {"frames": ["many"]}))


def test_prompts_are_swept_where_the_recipe_keeps_the_examples_own():
    """None with a type, as ``configs.common.benchmark`` leaves a query, takes a value."""
    benchmark = common.benchmark("b", common.choose(), path="d", split="test")
    config = ml_collections.ConfigDict({"benchmarks": (benchmark,), "stream": None})
    assert plain_dict(config)["benchmarks"][0]["query"] is None
    queries = ["What is shown?", "Describe."]
    runs = settings(config, {"benchmarks[0].query": queries})
    assert [c.benchmarks[0].query for _, c in runs] == queries
    assert config.benchmarks[0].query is None
    with pytest.raises(ConfigError, match="'stream' is None, which no override can replace"):
        list(settings(config, {"stream": ["x"]}))
