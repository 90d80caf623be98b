"""The study of selective decoding on more streams than configs/eval/world.py has.

(none)       16 streams of each kind
:procedural  the headline's kind alone
"""

from ml_collections import ConfigDict

from configs.eval import world

# Decodings per second, as the paper sweeps them.
RATES = (*(2.0, 1.4, 1.0, 0.7, 0.5, 0.35, 0.25, 0.18, 0.12, 0.08, 0.04, 0.02, 0.01),)


def get_config(variant: str = "") -> ConfigDict:
    if variant not in ("", "procedural"):
        raise ValueError(f"no variant '{variant}': there are 'procedural' and none")
    config = world.get_config()
    config.benchmarks = ()
    config.stream.forms = ("clip", "averaged", "exact")
    config.stream.rates = RATES
    kinds = ("procedural",) if variant else ("procedural", "poisson")
    config.stream.sets = tuple(
        ConfigDict({"kind": kind, "density": 0.40, "streams": 16}) for kind in kinds
    )
    return config
