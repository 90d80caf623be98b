"""The study of selective decoding on more streams than configs/eval/world.py has.

(none)       16 streams of each kind
:procedural  the headline's kind alone
"""

from ml_collections import ConfigDict

from configs.eval import world


def get_config(variant: str = "") -> ConfigDict:
    if variant not in ("", "procedural"):
        raise ValueError(f"no variant '{variant}': there are 'procedural' and none")
    config = world.get_config()
    config.benchmarks = ()
    config.stream.forms = ("clip", "averaged", "exact")
    kinds = ("procedural",) if variant else ("procedural", "poisson")
    config.stream.sets = tuple(
        ConfigDict({"kind": kind, "density": 0.40, "streams": 16}) for kind in kinds
    )
    return config
