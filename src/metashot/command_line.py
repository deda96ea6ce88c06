"""What the two scripts share: Hydra with stored configurations, bad input as one message, Ctrl-C without a traceback.

`resume=`, `repeat=` and `ckpt=` name a stored configuration. It takes the place of the configuration files: every group
that the user does not choose becomes the stored one, and the rest of the command line is applied over it by Hydra.
"""

import atexit
import contextlib
import functools
import os
import re
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any, ParamSpec

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep
from hydra.errors import ConfigCompositionException, HydraException
from omegaconf import DictConfig
from omegaconf.errors import InterpolationResolutionError, OmegaConfBaseException, ValidationError

from metashot import sweeping
from metashot.bad_input import BadInput, GaveUp, in_one_line, one_of
from metashot.configuration import plugins
from metashot.configuration.buildable import CONF as CONF
from metashot.interruption import STOP, Stopped, ignore_signals
from metashot.leftovers import is_child_of_lightning, refuse_leftovers
from metashot.overrides import (
    HYDRA,
    PATHS,
    cannot_be_resolved,
    choices_of,
    is_for_users,
    other_choice,
    parsed,
    refuse_other_choice,
    refuse_what_cannot_be_read,
)
from metashot.paths import REFUSED, quoted
from metashot.plugin_search import find_conf_of_plugins
from metashot.printing import forgive_closed_pipe, lost_output, outlast_the_streams
from metashot.script_help import asks_for_help, help_text

FAILED, BAD_INPUT, INTERRUPTED = 1, 2, 130  # exit codes

_NO_ROOM = ("failed to map segment", "annot allocate memory")  # what the system's loader says of a library
Stored = Callable[[str], dict[str, Any]]  # what a user gave for a key -> the configuration that is stored there


P = ParamSpec("P")


def as_a_process(run: Callable[P, None]) -> Callable[P, None]:
    """Stop when told to, survive streams that nobody can read, and end with the exit code that says what happened."""

    @functools.wraps(run)
    def whole(*arguments: P.args, **named: P.kwargs) -> None:
        outlast_the_streams()
        if is_child_of_lightning():
            ignore_signals()
        atexit.register(ignore_signals)  # the last of what is done at the end
        with STOP.listening():
            code = FAILED
            try:
                code = _exit_code(run, *arguments, **named)
            finally:
                STOP.end_with(code)
        sys.exit(code)

    return whole


def _exit_code(run: Callable[P, None], *arguments: P.args, **named: P.kwargs) -> int:
    code, wants_traceback = 0, os.environ.get("HYDRA_FULL_ERROR") == "1"
    try:
        _refuse_no_folder()
        refuse_leftovers()
        run(*arguments, **named)
    except BadInput as error:  # of this process's surroundings: whatever number they give it
        if wants_traceback:
            traceback.print_exception(error)
        print(f"error: {error}", file=sys.stderr, flush=True)
        code = BAD_INPUT
    except Stopped as stopped:
        _say(str(stopped))
        code = INTERRUPTED
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except Exception:
        if not STOP.raised:
            raise
        _say(STOP.message)
        code = INTERRUPTED
    if sweeping.Sweep.members and _is_first():
        print(f"\n{sweeping.Sweep.table()}", flush=True)
    code = code or sweeping.Sweep.code()
    if code == 0 and (trouble := lost_output()) is not None:
        _say(f"error: standard output cannot be written: {trouble.strerror or trouble}; files were written as ever")
        code = FAILED
    return code


def _refuse_no_folder() -> None:
    try:
        os.getcwd()
    except OSError as error:
        raise BadInput(f"the working folder cannot be used: {error.strerror}; change to one that exists") from error


def judged(error: Exception) -> tuple[int, str]:
    """The exit code of what a job of a multirun ended with, and what it says; said at once, and in the table later."""
    if isinstance(error, BadInput | HydraException | OmegaConfBaseException):
        code, message = BAD_INPUT, str(error) if isinstance(error, BadInput) else explained(error)
    elif isinstance(error, GaveUp):
        code, message = FAILED, str(error)
    else:
        code, message = FAILED, f"{type(error).__name__}: {error}"
        traceback.print_exception(error)
    _say(f"error: {message}")
    return code, message


@as_a_process
def run_script(
    script: Callable[[DictConfig], Any],
    config_name: str,
    stored: dict[str, Stored],
    groups: Sequence[str],
    keys: Sequence[str],
    parts: dict[str, tuple[Stored, str]],
    several: Sequence[str] = (),
) -> None:
    """Compose the configuration and call the script with it; never returns anything but an exit code. `groups` and `keys`
    are what a stored configuration stands for; a key of `parts` stands for one group of another. The keys in `several` can
    be lists, of which the first one is what stands for them."""
    # Hydra is told to raise instead of reporting, and the user's own wish is kept for ours.
    wants_traceback = os.environ.get("HYDRA_FULL_ERROR") == "1"
    os.environ["HYDRA_FULL_ERROR"] = "1"

    begun = False

    def guarded(config: DictConfig) -> Any:
        nonlocal begun
        begun = True
        try:
            with STOP.listening():  # jobs of submitit begin here
                STOP.begin()
                plugins.enable(list(config.get(plugins.KEY, [])))  # a job of submitit has none yet
                return script(config)
        except BadInput as error:
            if sweeping.Sweep.running:
                raise
            _refuse(str(error), wants_traceback)
        except (HydraException, OmegaConfBaseException) as error:
            if sweeping.Sweep.running:
                raise
            _refuse(explained(error), wants_traceback)
        except OSError as error:
            if error.errno not in REFUSED or error.filename is None:
                raise
            message = f"{quoted(str(error.filename))} cannot be used: {error.strerror}"
            if sweeping.Sweep.running:
                raise BadInput(message) from error
            _refuse(message, wants_traceback)
        except ImportError as error:
            if not any(reason in str(error) for reason in _NO_ROOM):
                raise
            message = f"there is too little memory to load PyTorch ({error}): close other programs, or raise ulimit -v"
            if sweeping.Sweep.running:
                raise BadInput(message) from error
            _refuse(message, wants_traceback)
        except Stopped as stopped:
            _say(str(stopped))
            sys.exit(INTERRUPTED)
        except GaveUp as reason:
            if sweeping.Sweep.running:
                raise
            _say(f"error: {reason}")
            sys.exit(FAILED)

    try:
        sys.argv[1:] = [_quoted(argument) for argument in sys.argv[1:]]
        _enable_plugins(sys.argv[1:])
        refuse_what_cannot_be_read(sys.argv[1:], CONF, config_name)
        if asks_for_help(sys.argv[1:]):
            print(help_text(sys.argv[1:], CONF, config_name, groups if "ckpt" in stored else ()))
            forgive_closed_pipe()
            return
        _use_stored_configuration(stored, groups, keys, parts, several)
        sweeping.take_the_place_of_hydras(judged)
        hydra.main(version_base="1.3", config_path=str(CONF), config_name=config_name)(guarded)()
        if not begun:  # --cfg and --info
            forgive_closed_pipe()
    except (HydraException, OmegaConfBaseException) as error:
        _refuse(explained(error), wants_traceback)
    except BadInput as error:
        _refuse(str(error), wants_traceback)
    except OSError as error:  # a stored configuration that may not be read, or a folder that Hydra is to make
        if (error.errno not in REFUSED and begun) or error.filename is None:
            raise
        _refuse(f"{quoted(str(error.filename))} cannot be used: {error.strerror}", wants_traceback)
    except KeyboardInterrupt:
        _say("stopped")
        sys.exit(INTERRUPTED)
    except Exception as error:
        # submitit runs a job in a process of its own, and tells of its end what that process printed.
        of_job = type(error).__module__.startswith("submitit.")
        if not begun and not of_job and not sweeping.Sweep.members:  # Hydra's own options and keys
            _refuse(f"Hydra: {' '.join(str(error).split())[:300] or type(error).__name__}", wants_traceback)
        ours = [line for line in str(error).splitlines() if line.startswith("error: ")]
        if wants_traceback or not of_job or not ours:
            raise
        _say(ours[-1])
        sys.exit(BAD_INPUT)


def _quoted(argument: str) -> str:
    """A path as Hydra reads it: files have names that its grammar does not know, in other scripts or with brackets."""
    key, equals, value = argument.partition("=")
    if not equals or key.lstrip("+") not in PATHS or value.startswith(("'", '"')) or "${" in value:
        return argument
    with contextlib.suppress(HydraException):
        (override,) = OverridesParser.create().parse_overrides([argument])
        sweeps = isinstance(override.value(), ChoiceSweep)
        is_number = isinstance(override.value(), int | float) and not isinstance(override.value(), bool)
        if not is_number and (not sweeps or {"-m", "--multirun"} & set(sys.argv)):
            return argument
    quote = "'" if '"' in value else '"'
    return f"{key}={quote}{value.replace(quote, chr(92) + quote)}{quote}"


def _enable_plugins(arguments: Sequence[str]) -> None:
    """Before anything else is read, since they have choices and classes that the rest of the command line may name."""
    for argument in arguments:
        if argument.partition("=")[0].lstrip("+") == plugins.KEY and "=" in argument:
            override = parsed(argument)
            if override.is_sweep_override():
                raise BadInput(
                    f"{argument} cannot be used: all runs have the same plug-ins; give a list, as in plugins=[a,b]"
                )
            plugins.enable(override.value())
    find_conf_of_plugins()


def _refuse(message: str, wants_traceback: bool) -> None:
    if STOP.raised:
        raise Stopped(STOP.message)
    if wants_traceback:
        raise
    _say(f"error: {message}")
    sys.exit(BAD_INPUT)


def _say(message: str) -> None:
    """To the user, once."""
    if _is_first():
        print(message, file=sys.stderr, flush=True)


def _is_first() -> bool:
    """What starts several processes numbers them."""
    numbers = ("RANK", "LOCAL_RANK", "SLURM_PROCID", "SUBMITIT_LOCAL_GLOBALID")
    return all(os.environ.get(number, "0") == "0" for number in numbers)


def _use_stored_configuration(
    stored: dict[str, Stored],
    groups: Sequence[str],
    own_keys: Sequence[str],
    parts: dict[str, tuple[Stored, str]],
    several: Sequence[str],
) -> None:
    given = [argument for argument in sys.argv[1:] if "=" in argument and not argument.startswith("-")]
    overrides = OverridesParser.create().parse_overrides(given)
    chosen = {override.key_or_group: override for override in overrides}
    for group in (*groups, "experiment"):
        allowed = (str, ChoiceSweep, type(None)) if group == "experiment" else (str, ChoiceSweep)
        if group in chosen and not isinstance(chosen[group].value(), allowed):
            refuse_other_choice(group, chosen[group].get_value_element_as_str(), choices_of(CONF, group))
    keys = [key for key in stored if key in chosen and chosen[key].value() is not None]
    if not keys:
        for key, (load, group) in parts.items():
            if key in chosen and group not in chosen and isinstance(value := chosen[key].value(), str):
                _use_stored_group(f"{key}={value}", load(value), group)
                sys.argv.append(f"{group}=stored")
        return
    if len(keys) > 1:
        raise BadInput(f"{keys[0]} and {keys[1]} were both given: use one of them")
    value = chosen[keys[0]].value()
    if keys[0] in several and isinstance(value, list):
        if not value or not all(isinstance(one, str) for one in value):
            raise BadInput(f"{keys[0]}={value} cannot be used; allowed: checkpoints or run folders, as in [RUN1,RUN2]")
        value = value[0]
    if not isinstance(value, str):
        one_or_several = "one checkpoint or one run folder" + (", or a list of them" if keys[0] in several else "")
        given_value = chosen[keys[0]].get_value_element_as_str()
        raise BadInput(f"{keys[0]}={given_value} cannot be used; allowed: {one_or_several}")
    config = stored[keys[0]](value)
    for group in groups:
        _use_stored_group(f"{keys[0]}={value}", config, group)
        if group not in chosen:
            sys.argv.append(f"{group}=stored")
    for key in own_keys:
        if key not in chosen and config.get(key) is not None:
            sys.argv.append(_quoted(f"{key}={config[key]}"))


def _use_stored_group(given: str, config: dict[str, Any], group: str) -> None:
    if not isinstance(config.get(group), dict):
        raise BadInput(f"{given}: its configuration has no {group}; it was not written by metashot")
    ConfigStore.instance().store(group=group, name="stored", node=config[group])


def explained(error: Exception) -> str:
    """Hydra's message, with what is allowed where Hydra does not say it."""
    cause = error.__cause__ if isinstance(error, ConfigCompositionException) else error
    if isinstance(cause, InterpolationResolutionError):
        return cannot_be_resolved(cause)
    if isinstance(cause, ValidationError):  # Hydra's own keys have types
        given = str(error).removeprefix("Error merging override ") if cause is not error else cause.full_key
        return in_one_line(f"{given} cannot be used: {str(cause).splitlines()[0]}")
    key = getattr(cause, "full_key", None)
    parent = getattr(cause, "parent_node", None)
    if key and isinstance(parent, DictConfig):
        place, _, name = str(key).rpartition(".")
        where = f"under {place}" if place else "at the top"
        return f"unknown key {key}; allowed {where}: {one_of(filter(is_for_users, map(str, parent)), name)}"
    # What Hydra says of a choice that a group does not have ends with the folders it searched.
    said = str(error).partition("Config search path")[0]
    if missing := re.search(r"Could not find '([\w/]+)/(.+)'", said):
        of_hydra = missing[1].startswith(f"{HYDRA}/")
        choices = re.findall(r"^\t(.+)", said, re.MULTILINE) if of_hydra else choices_of(CONF, missing[1])
        return other_choice(missing[1], missing[2], choices)
    return in_one_line(" ".join(said.split())) or type(error).__name__
