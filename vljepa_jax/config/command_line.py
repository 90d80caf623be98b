"""The --config flag of the commands, and errors that a person can act on.

``--config=FILE[:variant]`` names a recipe, a Python file whose ``get_config`` takes the variant
(nothing without a colon) and returns a ``ConfigDict``; of a recipe that comes with the package its
name will do, ``--config=demo`` or ``eval/world``. ``--config.a.b=value`` overrides a field;
an entry of a table is ``--config.optimizer.rules[0].lr_multiplier=0.1``.
"""

from __future__ import annotations

import contextlib
import difflib
import re
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, Literal

import ml_collections
from absl import app, flags, logging
from ml_collections import config_flags

from vljepa_jax import host
from vljepa_jax.config import ConfigError, endings, find_recipe, load_recipe, plain_dict
from vljepa_jax.json_text import is_encoding
from vljepa_jax.places import BUCKETS, why_not, without_login

flags.disclaim_key_flags()  # --help shows what is defined here as the script's own
_NO_TEXT = "must be text in the encoding of the system, mostly UTF-8"
_OVERRIDE = re.compile(r"--?(?:no)?config\.([^=]+)")
_CONFIG = re.compile(r"--?config(?:=(.*))?$")


def define_config(help_text: str, *, required: bool = True) -> flags.FlagHolder:
    """Defines the flag --config; its ``value`` is the ConfigDict with its overrides."""
    holder = config_flags.DEFINE_config_file("config", None, help_text, lock_config=True)
    if required:
        flags.mark_flag_as_required("config")
    # Shown by --help of the script, although it is defined here.
    flags.FLAGS.register_key_flag_for_module(sys.argv[0], flags.FLAGS["config"])
    return holder


def define_path(
    name: str,
    help_text: str,
    *,
    many: Literal["", "repeated", "listed"] = "",
    buckets: Collection[str] = (),
    required: bool = False,
) -> flags.FlagHolder:
    """Defines a flag whose value is a path, ``None`` by default; an address is refused.

    Args:
        many: "repeated" flags make a list of paths, and so does a "listed" one, between commas.
        buckets: addresses that it takes too, ``places.BUCKETS`` or some of these.
    """
    parser = _PathsParser(buckets) if many == "listed" else _PathParser(buckets)
    serializer = flags.CsvListSerializer(",") if many == "listed" else flags.ArgumentSerializer()
    define = flags.DEFINE_multi if many == "repeated" else flags.DEFINE
    return define(
        parser=parser,
        serializer=serializer,
        name=name,
        default=None,
        help=help_text,
        required=required,
    )


def define_text(name: str, default: str | None, help_text: str) -> flags.FlagHolder:
    """Defines a flag whose value is a text that a model reads."""
    holder = flags.DEFINE_string(name, default, help_text)
    flags.register_validator(name, lambda text: text is None or _is_text(text), _NO_TEXT)
    # Shown by --help of the script, although it is defined here.
    flags.FLAGS.register_key_flag_for_module(sys.argv[0], flags.FLAGS[name])
    return holder


def _is_text(text: str) -> bool:
    """Whether it came in the system's encoding; Python keeps other bytes as surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def define_encoding(files: str) -> flags.FlagHolder:
    """Defines the flag --encoding, ``None`` by default; one that Python does not know is refused.

    Args:
        files: what it is of, for the help.
    """
    holder = flags.DEFINE_string(
        "encoding", None, f"Of {files} in neither UTF-8 nor UTF-16, e.g. cp1252."
    )
    flags.register_validator(
        "encoding", lambda name: name is None or is_encoding(name), "is no encoding of texts"
    )
    # Shown by --help of the script, although it is defined here.
    flags.FLAGS.register_key_flag_for_module(sys.argv[0], flags.FLAGS["encoding"])
    return holder


def define_model(
    help_text: str = "A training run, or an exported model.", *, required: bool = True
) -> Callable[[], str | None]:
    """Defines --checkpoint and, in its place, --model; gives what returns the one that is given.

    Args:
        help_text: of --checkpoint.
        required: whether one must be given.
    """
    run = define_path("checkpoint", help_text, buckets=BUCKETS)
    published = define_path(
        "model", "Published weights (docs/models.md), in place of --checkpoint."
    )
    flags.mark_flags_as_mutual_exclusive(["checkpoint", "model"], required=required)
    return lambda: run.value or published.value


class _PathParser(flags.ArgumentParser):
    def __init__(self, accepted: Collection[str]) -> None:
        self._accepted = accepted

    def parse(self, argument: str) -> str:
        if fault := why_not(argument, self._accepted):
            raise ValueError(fault)
        return argument


class _PathsParser(flags.ListParser):
    def __init__(self, accepted: Collection[str]) -> None:
        super().__init__()
        self._accepted = accepted

    def parse(self, argument: str | list[str]) -> list[str]:
        paths = super().parse(argument)
        if fault := why_not(",".join(paths), self._accepted):
            raise ValueError(fault)
        return paths


def run(
    main: Callable[..., int | None],
    *,
    argument: str = "",
    optional: Callable[[], bool] = lambda: False,
) -> None:
    """Sets the process up, runs ``main`` with parsed flags and exits with the status it returns.

    ``--help`` shows the docstring of the script. What ends it before is told in one line
    (``endings``).

    Args:
        argument: what the one argument that is no flag means; ``main`` is called with it. "" takes
            none.
        optional: whether ``main`` can do without, asked when flags are parsed.
    """

    def checked(argv: Sequence[str]) -> int | None:
        expected = 1 if argument else 0
        if len(argv) > 1 + expected:
            sys.exit(f"error: unexpected argument '{argv[1 + expected]}'")
        if len(argv) < 1 + expected and not optional():
            sys.exit(f"error: give {argument}\nTry {argv[0]} --help.")
        for text in argv[1:]:
            if not _is_text(text):
                sys.exit(f"error: {argument}: {_NO_TEXT}, which {ascii(text)} is not")
        if not flags.FLAGS["verbosity"].present:  # absl's app shows what libraries say in passing
            logging.set_verbosity(logging.WARNING)
        return main(*argv[1:])

    with endings.one_line():
        host.set_up()
        app.run(checked, flags_parser=_parse)


@contextlib.contextmanager
def explained(*errors: type[Exception]) -> Iterator[None]:
    """Turns ConfigError, OSError and ``errors`` into a message on stderr and status 1.

    These say what to mend. Any other exception is a fault of the program and keeps its traceback.
    """
    try:
        yield
    except BrokenPipeError:  # nothing to mend: nobody reads the output
        raise
    except (ConfigError, OSError, *errors) as error:
        sys.exit(f"error: {endings.told(error)}")


@contextlib.contextmanager
def in_job(
    *errors: type[Exception], saves_on_sigterm: bool = False, compiled: str | None = None
) -> Iterator[None]:
    """``explained``, in one process of a job of several (``distributed.job``).

    ``compiled`` says where compiled programs are kept, as of ``keep_compiled``.
    """
    from vljepa_jax.parallel import compilation_cache, distributed  # after the flags: import jax

    with explained(), distributed.job(saves_on_sigterm=saves_on_sigterm), explained(*errors):
        compilation_cache.keep_compiled(compiled)
        yield


def as_called(text: str) -> str:
    """A text that names commands, with the words by which this one was called.

    Args:
        text: has them as ``python launch/NAME.py``; where the program is ``vljepa``, they become
            ``vljepa NAME``.
    """
    installed = sys.argv[0].startswith("vljepa ")
    return re.sub(r"(?:python )?launch/(\w+)\.py", r"vljepa \1", text) if installed else text


def _parse(argv: Sequence[str]) -> list[str]:
    try:
        argv = _with_recipe(argv)
        return flags.FLAGS(argv)
    except SystemExit as end:  # --help and its like, for which absl exits with 1
        sys.exit(0 if end.code == 1 else end.code)
    except (ConfigError, flags.Error) as error:
        sys.exit(f"error: {without_login(str(error))}\nTry {argv[0]} --help.")


def _with_recipe(argv: Sequence[str]) -> list[str]:
    """``argv`` with the path of the recipe in place of its name.

    Refuses overrides of unknown fields before the flag library fails on them with a traceback. That
    library runs the recipe file again, and finds imported what ``load_recipe`` has imported.

    Raises:
        ConfigError: the recipe is not there, or a field is unknown; the message names the nearest.
    """
    argv, path, place = list(argv), None, 0
    for index, (argument, following) in enumerate(zip(argv, [*argv[1:], ""], strict=True)):
        if match := _CONFIG.match(argument):
            path, place = match[1], index
            if path is None:
                path, place = following, index + 1
    if path is None or place == len(argv):
        return argv
    if fault := why_not(path):
        raise ConfigError(f"--config={path} {fault}")
    name, *variant = path.split(":", 1)
    try:
        file = find_recipe(name)
    except ConfigError as error:
        raise ConfigError(f"--config: {error}") from error
    try:
        recipe = overridable(load_recipe(file, *variant))
    except (TypeError, ValueError) as error:  # of the variant
        raise ConfigError(f"--config={path}: {type(error).__name__}: {error}") from error
    for argument in argv[1:]:
        if match := _OVERRIDE.match(argument):
            check_field(recipe, match[1])
    argv[place] = argv[place].removesuffix(path) + ":".join([file, *variant])
    return argv


def overridable(value: Any) -> Any:
    """``plain_dict``, but where a value may come in place of None (a placeholder), it has one."""
    if isinstance(value, ml_collections.ConfigDict):
        types = {key: value.get_type(key) for key in value}
        return {
            key: types[key]() if child is None and types[key] is str else overridable(child)
            for key, child in value.items()
        }
    if isinstance(value, (tuple, list)):
        return type(value)(map(overridable, value))
    return plain_dict(value)


def check_field(recipe: Mapping[str, Any], field: str) -> None:
    """Raises a ConfigError for a field that cannot be overridden ("optimizer.rules[0]" cannot)."""
    node: Any = recipe
    parts = re.findall(r"[^.\[\]]+", field)
    seen = ""
    for index, part in enumerate(parts):
        if isinstance(node, Mapping) and part in node:
            node, seen = node[part], f"{seen}.{part}" if seen else part
        elif isinstance(node, (list, tuple)) and part.isdigit() and int(part) < len(node):
            node, seen = node[int(part)], f"{seen}[{part}]"
        elif isinstance(node, Mapping):
            hint = _nearest_field(recipe, node, seen, part, last=index == len(parts) - 1)
            raise ConfigError(f"unknown field '{field}'{hint}")
        else:
            size = f"has {len(node)} entries" if isinstance(node, (list, tuple)) else "is a value"
            raise ConfigError(f"unknown field '{field}': '{seen}' {size}")
    if node is None:
        raise ConfigError(f"'{field}' is None, which no override can replace; set it in a recipe")


def _nearest_field(
    recipe: Mapping[str, Any], node: Mapping[str, Any], seen: str, part: str, *, last: bool
) -> str:
    """The same name elsewhere in the recipe, else a like one beside it."""
    prefix = f"{seen}." if seen else ""
    names = _fields(recipe, "")
    homonyms = [name for name in names if name.rsplit(".", 1)[-1] == part]
    beside = difflib.get_close_matches(part, map(str, node), n=1, cutoff=0.5)
    if homonyms:
        found = difflib.get_close_matches(prefix + part, homonyms, n=1, cutoff=0.0)[0]
    elif beside:
        found = prefix + beside[0] + ("" if last else ".")
    else:
        return f"; '{seen or 'config'}' has {', '.join(map(str, node))}"
    return f" (did you mean '{found}'?)"


def _fields(node: Any, prefix: str) -> list[str]:
    if not isinstance(node, Mapping):
        return []
    names = []
    for key, value in node.items():
        names += [prefix + str(key), *_fields(value, f"{prefix}{key}.")]
    return names
