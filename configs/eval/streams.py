"""The study of selective decoding on more streams than configs/eval/world.py has, of both kinds."""

from ml_collections import ConfigDict

from configs.eval import world


def get_config() -> ConfigDict:
    config = world.get_config()
    config.benchmarks = ()
    config.stream.sets = (
        ConfigDict({"kind": "procedural", "density": 0.40, "streams": 16}),
        ConfigDict({"kind": "poisson", "density": 0.40, "streams": 16}),
    )
    return config
