"""Shared by all commands: running Hydra, reporting bad input in one line, and handling Ctrl-C without a traceback."""

import atexit
import functools
import os
import sys
import traceback
from collections.abc import Callable
from typing import Any, ParamSpec

import hydra
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from metashot.bad_input import BadInput, GaveUp
from metashot.commands import sweeping
from metashot.commands.script_help import asks_for_help, help_text
from metashot.configuration import plugins
from metashot.configuration.buildable import CONF
from metashot.configuration.composing import Recipe, enable_plugins, explained, quoted_for_hydra, with_stored_groups
from metashot.configuration.overrides import (
    refuse_unreadable,
)
from metashot.configuration.suggestions import suggestions_where_they_fit
from metashot.files.paths import USER_ERRNOS, quoted, refuse_missing_working_folder
from metashot.process.exit_codes import BAD_INPUT, FAILED, INTERRUPTED
from metashot.process.interruption import STOP, Stopped, ignore_signals
from metashot.process.leftovers import is_child_of_lightning, refuse_leftovers
from metashot.process.printing import ignore_closed_pipe, output_error, tolerate_broken_streams

_NO_ROOM = ("failed to map segment", "annot allocate memory")  # messages of the dynamic loader about a library

P = ParamSpec("P")


def as_a_process(run: Callable[P, None]) -> Callable[P, None]:
    """Run a function as the main function of a process: handle signals and broken streams, and exit with the right code.

    Args:
        run: the main function.

    Returns:
        The function, which never returns but exits.
    """

    @functools.wraps(run)
    def whole(*arguments: P.args, **named: P.kwargs) -> None:
        tolerate_broken_streams()
        if is_child_of_lightning():
            ignore_signals()
        atexit.register(ignore_signals)  # registered first, so that it runs last
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
        refuse_missing_working_folder()
        refuse_leftovers()
        run(*arguments, **named)
    except BadInput as error:  # about the environment: every process prints it, whatever its rank
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
    if sweeping.Sweep.jobs and _is_first():
        print(f"\n{sweeping.Sweep.table()}", flush=True)
    code = code or sweeping.Sweep.code()
    if code == 0 and (trouble := output_error()) is not None:
        _say(f"error: standard output cannot be written: {trouble.strerror or trouble}; all files have been written")
        code = FAILED
    return code


def describe_failure(error: Exception) -> tuple[int, str]:
    """Print the error of a job in a multirun, and return its exit code and message for the final table.

    Args:
        error: the exception that ended the job.
    """
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
    recipe: Recipe,
) -> None:
    """Compose the configuration and call a script with it, then exit with a code.

    Args:
        script: called with the composed configuration.
        recipe: how the configuration is composed.
    """
    # Make Hydra raise errors instead of reporting them, and keep the user's setting for our own reports.
    wants_traceback = os.environ.get("HYDRA_FULL_ERROR") == "1"
    os.environ["HYDRA_FULL_ERROR"] = "1"

    begun = False

    def guarded(config: DictConfig) -> Any:
        nonlocal begun
        begun = True
        try:
            with STOP.listening():  # a submitit job starts here
                STOP.begin()
                plugins.enable(list(config.get(plugins.KEY, [])))  # a submitit job has not loaded any yet
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
            if error.errno not in USER_ERRNOS or error.filename is None:
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
        sys.argv[1:] = [quoted_for_hydra(argument, bool({"-m", "--multirun"} & set(sys.argv))) for argument in sys.argv[1:]]
        enable_plugins(sys.argv[1:])
        refuse_unreadable(sys.argv[1:], CONF, recipe.name)
        if asks_for_help(sys.argv[1:]):
            print(help_text(sys.argv[1:], CONF, recipe.name, recipe.groups if "ckpt" in recipe.stored else ()))
            ignore_closed_pipe()
            return
        sys.argv[1:] = with_stored_groups(recipe, sys.argv[1:])
        sweeping.replace_hydras_own(describe_failure)
        with suggestions_where_they_fit():
            hydra.main(version_base="1.3", config_path=str(CONF), config_name=recipe.name)(guarded)()
        if not begun:  # --cfg and --info
            ignore_closed_pipe()
    except (HydraException, OmegaConfBaseException) as error:
        _refuse(explained(error), wants_traceback)
    except BadInput as error:
        _refuse(str(error), wants_traceback)
    except OSError as error:  # an unreadable stored configuration, or a folder that Hydra cannot create
        if (error.errno not in USER_ERRNOS and begun) or error.filename is None:
            raise
        _refuse(f"{quoted(str(error.filename))} cannot be used: {error.strerror}", wants_traceback)
    except KeyboardInterrupt:
        _say("stopped")
        sys.exit(INTERRUPTED)
    except Exception as error:
        # submitit runs a job in a separate process, and its exception contains what that process printed.
        of_job = type(error).__module__.startswith("submitit.")
        if not begun and not of_job and not sweeping.Sweep.jobs:  # an error about Hydra's own options and keys
            _refuse(f"Hydra: {' '.join(str(error).split())[:300] or type(error).__name__}", wants_traceback)
        ours = [line for line in str(error).splitlines() if line.startswith("error: ")]
        if wants_traceback or not of_job or not ours:
            raise
        _say(ours[-1])
        sys.exit(BAD_INPUT)


def _refuse(message: str, wants_traceback: bool) -> None:
    if STOP.raised:
        raise Stopped(STOP.message)
    if wants_traceback:
        raise
    _say(f"error: {message}")
    sys.exit(BAD_INPUT)


def _say(message: str) -> None:
    """Print a message to standard error, on rank 0 only."""
    if _is_first():
        print(message, file=sys.stderr, flush=True)


def _is_first() -> bool:
    """Whether this process has rank 0, according to the variables that launchers set."""
    numbers = ("RANK", "LOCAL_RANK", "SLURM_PROCID", "SUBMITIT_LOCAL_GLOBALID")
    return all(os.environ.get(number, "0") == "0" for number in numbers)
