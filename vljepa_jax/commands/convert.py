r"""Published weights in, trained weights out.

In: directories in the Hugging Face layout (config.json and model.safetensors, or shards and their
index) become a checkpoint that training starts from. A part that is not given starts at random.

    python launch/convert.py --config=configs/vljepa_1b.py \
        --x_encoder=weights/vjepa2-vitl-fpc64-256 --predictor=weights/llama-3.2-1b \
        --y_encoder=weights/embeddinggemma-300m --output=weights/vljepa_1b
    python launch/train.py --config=configs/vljepa_1b.py --workdir=runs/vljepa_1b_image \
        --config.init_from=weights/vljepa_1b:params

"@bundled" in place of a directory is the small backbone that comes with the package. With --align
the heads are initialised in closed form from the training texts of the recipe's sources.

Out: each backbone becomes a directory that transformers loads, the rest one safetensors file.

    python launch/convert.py --checkpoint=runs/vljepa_1b_sft --export=exported

--export_hub in place of --export writes the same directory with a model card, filled from the run's
report.json, and the licence, as the Hugging Face Hub expects it; vljepa_jax.load reads both.

    python launch/convert.py --checkpoint=runs/vljepa_1b_sft --export_hub=my-model \
        --license=apache-2.0 --license_file=LICENSE

docs/weights.md says where the weights are to be had, and under which licence.
"""

from pathlib import Path

from absl import flags

from vljepa_jax import terminal
from vljepa_jax.config import TrainConfig, command_line, parse
from vljepa_jax.models.parts import BACKBONES
from vljepa_jax.places import BUCKETS, place

_CONFIG = command_line.define_config(
    "The recipe, FILE[:variant]; --config.a.b=value overrides.", required=False
)
for _part in BACKBONES:
    command_line.define_path(_part, "Directory of its published weights, or @bundled.")
_OUTPUT = command_line.define_path(
    "output", "Run directory to write; must hold no checkpoint.", buckets=BUCKETS
)
_CHECKPOINT = command_line.define_path("checkpoint", "Run directory to export.", buckets=BUCKETS)
_EXPORT = command_line.define_path("export", "Directory to export to; must be empty.")
_EXPORT_HUB = command_line.define_path(
    "export_hub", "As --export, with a model card for the Hugging Face Hub."
)
_LICENSE = flags.DEFINE_string(
    "license", None, "Of the exported model, by the Hub's identifier, e.g. apache-2.0."
)
_LICENSE_FILE = command_line.define_path("license_file", "Its text, copied as LICENSE.")
_ALIGN = flags.DEFINE_boolean(
    "align", False, "Initialise the heads in closed form from the recipe's training texts."
)
_DTYPE = flags.DEFINE_enum("dtype", "float32", ["float32", "bfloat16"], "Of exported weights.")


def _complete(values: dict) -> bool:
    exports = [name for name in ("export", "export_hub") if values[name]]
    if exports or values["checkpoint"]:
        others = [values[name] for name in ("output", "config", *BACKBONES)]
        licence = [bool(values[name]) for name in ("license", "license_file")]
        complete = all(licence) if exports == ["export_hub"] else not any(licence)
        return len(exports) == 1 and complete and bool(values["checkpoint"]) and not any(others)
    return bool(values["config"] and values["output"] and any(values[name] for name in BACKBONES))


flags.register_multi_flags_validator(
    [
        *("config", "output", "checkpoint", "export", "export_hub", "license", "license_file"),
        *BACKBONES,
    ],
    _complete,
    f"give --config, --output and at least one of {', '.join('--' + part for part in BACKBONES)}; "
    "or --checkpoint and --export alone; or --checkpoint, --export_hub, --license and "
    "--license_file",
)


def main() -> None:
    console = terminal.PlainConsole()
    with command_line.explained():
        config = parse(TrainConfig, _CONFIG.value) if _CONFIG.value else None
    # Only now: a misspelt command is answered at once.
    from vljepa_jax.convert.export import export_checkpoint
    from vljepa_jax.convert.hub import Card
    from vljepa_jax.convert.published import backbone_directory, convert_checkpoint
    from vljepa_jax.convert.rules import ConversionError
    from vljepa_jax.data.storage import DatasetError
    from vljepa_jax.run_dir import CheckpointError

    with command_line.explained(CheckpointError, ConversionError, DatasetError):
        if config is None:
            card = Card(_LICENSE.value, Path(_LICENSE_FILE.value)) if _EXPORT_HUB.value else None
            output = Path(_EXPORT_HUB.value or _EXPORT.value)
            export_checkpoint(place(_CHECKPOINT.value), output, console, _DTYPE.value, card)
        else:
            given = {part: flags.FLAGS[part].value for part in BACKBONES}
            directories = {p: backbone_directory(p, path) for p, path in given.items() if path}
            output = place(_OUTPUT.value)
            convert_checkpoint(config, directories, output, console, align=_ALIGN.value)


def run() -> None:
    command_line.run(main)
