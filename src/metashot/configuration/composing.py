"""Composes the configuration of a command line: Hydra's grammar, stored configurations, and Hydra's errors as our messages.

`resume=`, `repeat=` and `ckpt=` name a stored configuration, which replaces the configuration files: every group that the
user does not choose is taken from it, and Hydra applies the rest of the command line on top.
"""

import contextlib
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep
from hydra.errors import ConfigCompositionException, HydraException
from omegaconf import DictConfig
from omegaconf.errors import InterpolationResolutionError, OmegaConfBaseException, ValidationError

from metashot.bad_input import BadInput, in_one_line, one_of
from metashot.configuration import plain, plugins
from metashot.configuration.buildable import CONF
from metashot.configuration.checking import Container
from metashot.configuration.overrides import (
    FREE,
    HYDRA,
    PATHS,
    STORED,
    choices_of,
    is_user_key,
    parse_override,
    refuse_unknown_choice,
    refuse_unreadable,
    unknown_choice,
    unresolved_reference,
)
from metashot.configuration.plugin_search import find_conf_of_plugins
from metashot.configuration.suggestions import suggestions_where_they_fit
from metashot.files.paths import refuse_missing_working_folder

_ONE_AT_A_TIME = threading.RLock()  # what Hydra composes with is the process's

Stored = Callable[[str], Container]  # reads the configuration that is stored at a path


@dataclass(frozen=True)
class Recipe:
    """How the configuration of a command is composed.

    Attributes:
        name: the name of its file in conf/.
        groups: the groups that are taken from a stored configuration.
        stored: the keys that name a stored configuration, with the function that reads it.
        keys: further keys that are taken from a stored configuration.
        parts: keys that name a stored configuration of which one group is taken.
        several: the keys of `stored` that may be lists, whose first entry is read.
        implied: further arguments that a command line implies, which come before what it stores is read.
    """

    name: str
    groups: Sequence[str]
    stored: Mapping[str, Stored] = field(default_factory=dict)
    keys: Sequence[str] = ()
    parts: Mapping[str, tuple[Stored, str]] = field(default_factory=dict)
    several: Sequence[str] = ()
    implied: Callable[[Mapping[str, Any]], Sequence[str]] = lambda given: ()


def composed(recipe: Recipe, overrides: Sequence[str]) -> Container:
    """Compose the configuration of a run.

    Args:
        recipe: how it is composed.
        overrides: the arguments of a command line, such as `algo=maml`.

    Returns:
        The resolved configuration, which is not checked yet.

    Raises:
        BadInput: a key, a choice or a value cannot be read.
    """
    for given in overrides:
        if not isinstance(given, str):
            raise BadInput(f"{str(given)[:100]!r} is of type {type(given).__name__}; allowed: texts such as 'algo=maml'")
    refuse_missing_working_folder()
    arguments = [quoted_for_hydra(argument) for argument in overrides]
    options = [argument for argument in arguments if argument.startswith("-")]
    if options:
        raise BadInput(f"{options[0]} is an option of the command line; allowed here: group=choice and key=value")
    with _ONE_AT_A_TIME:
        enable_plugins(arguments)
        refuse_unreadable(arguments, CONF, recipe.name)
        try:
            with (
                _apart_from_other_programs(),
                suggestions_where_they_fit(),
                hydra.initialize_config_dir(str(CONF), version_base="1.3"),
            ):
                return plain(hydra.compose(recipe.name, overrides=with_stored_groups(recipe, arguments)))
        except (HydraException, OmegaConfBaseException) as error:
            raise BadInput(explained(error)) from error


@contextlib.contextmanager
def _apart_from_other_programs() -> Iterator[None]:
    """Hydra can be initialised once in a process: set aside what a program that uses it, too, has done."""
    before, GlobalHydra.instance().hydra = GlobalHydra.instance().hydra, None
    try:
        yield
    finally:
        GlobalHydra.instance().hydra = before  # of another instance perhaps: Hydra replaces it when it is done


def enable_plugins(arguments: Sequence[str]) -> None:
    """Enable the plug-ins that a command line names, before the rest is read, which may name their choices and classes.

    Raises:
        BadInput: a plug-in cannot be used.
    """
    for argument in arguments:
        if argument.partition("=")[0].lstrip("+") == plugins.KEY and "=" in argument:
            override = parse_override(argument)
            if override.is_sweep_override():
                raise BadInput(f"{argument} cannot be used: all runs have the same plug-ins; give plugins=[a,b]")
            plugins.enable(override.value())
    find_conf_of_plugins()


def quoted_for_hydra(argument: str, multirun: bool = False) -> str:
    """Quote the path in an argument where necessary: Hydra's grammar does not read brackets or other scripts.

    Keys that users name themselves become Hydra's `++key`, which need not exist.

    Args:
        argument: an argument of the command line.
        multirun: whether commas separate the values of several runs.
    """
    key, equals, value = argument.partition("=")
    if f"{key}.".startswith(FREE):
        return f"++{argument}"
    if not equals or key.lstrip("+") not in PATHS or value.startswith(("'", '"')) or "${" in value:
        return argument
    with contextlib.suppress(HydraException):
        (override,) = OverridesParser.create().parse_overrides([argument])
        sweeps = isinstance(override.value(), ChoiceSweep)
        is_number = isinstance(override.value(), int | float) and not isinstance(override.value(), bool)
        if not is_number and (not sweeps or multirun):
            return argument
    quote = "'" if '"' in value else '"'
    return f"{key}={quote}{value.replace(quote, chr(92) + quote)}{quote}"


def with_stored_groups(recipe: Recipe, arguments: Sequence[str]) -> list[str]:
    """Take the groups that a command line does not choose from the stored configuration that it names, if any.

    Args:
        recipe: how the configuration is composed.
        arguments: the command line.

    Returns:
        The command line with the additional choices and keys.

    Raises:
        BadInput: a stored configuration cannot be used, or two were named.
    """
    given = [argument for argument in arguments if "=" in argument and not argument.startswith("-")]
    overrides = OverridesParser.create().parse_overrides(given)
    chosen = {override.key_or_group: override for override in overrides}
    if implied := recipe.implied({key: override.value() for key, override in chosen.items()}):
        return with_stored_groups(replace(recipe, implied=lambda given: ()), _with(arguments, implied))
    for group in (*recipe.groups, "experiment"):
        allowed = (str, ChoiceSweep, type(None)) if group == "experiment" else (str, ChoiceSweep)
        if group in chosen and not isinstance(chosen[group].value(), allowed):
            refuse_unknown_choice(group, chosen[group].get_value_element_as_str(), choices_of(CONF, group))
    if (
        "experiment" in chosen and chosen["experiment"].value() is None
    ):  # the default, which Hydra does not take from a command line
        arguments = [argument for argument in arguments if argument.partition("=")[0] != "experiment"]
    added: list[str] = []
    keys = [key for key in recipe.stored if key in chosen and chosen[key].value() is not None]
    if not keys:
        for key, (load, group) in recipe.parts.items():
            if key not in chosen or not isinstance(value := chosen[key].value(), str):
                continue
            given_to_child = group in chosen and chosen[group].value() == STORED  # Lightning starts it with our arguments
            if group not in chosen or given_to_child:
                _use_stored_group(f"{key}={value}", load(value), group)
            if group not in chosen:
                added.append(f"{group}={STORED}")
        return _with(arguments, added)
    if len(keys) > 1:
        raise BadInput(f"{keys[0]} and {keys[1]} were both given: use one of them")
    value = chosen[keys[0]].value()
    if keys[0] in recipe.several and isinstance(value, list):
        if not value or not all(isinstance(one, str) for one in value):
            raise BadInput(f"{keys[0]}={value} cannot be used; allowed: checkpoints or run folders, as in [RUN1,RUN2]")
        value = value[0]
    if not isinstance(value, str):
        one_or_several = "one checkpoint or one run folder" + (", or a list of them" if keys[0] in recipe.several else "")
        sweeps = isinstance(value, ChoiceSweep)
        given_value = ",".join(map(str, value.list)) if sweeps else chosen[keys[0]].get_value_element_as_str()
        raise BadInput(f"{keys[0]}={given_value} cannot be used; allowed: {one_or_several}")
    config = recipe.stored[keys[0]](value)
    for group in recipe.groups:
        _use_stored_group(f"{keys[0]}={value}", config, group)
        if group not in chosen:
            added.append(f"{group}={STORED}")
    for key in recipe.keys:
        if key not in chosen and config.get(key) is not None:
            added.append(quoted_for_hydra(f"{key}={config[key]}"))
    return _with(arguments, added)


def _with(arguments: Sequence[str], added: Sequence[str]) -> list[str]:
    """A command line with further overrides behind its own ones: options may stand before and after all of them."""
    own = [place for place, one in enumerate(arguments) if "=" in one and not one.startswith("-")]
    end = own[-1] + 1 if own else len(arguments)
    return [*arguments[:end], *added, *arguments[end:]]


def _use_stored_group(given: str, config: dict[str, Any], group: str) -> None:
    if not isinstance(config.get(group), dict):
        raise BadInput(f"{given}: its configuration has no {group}; it was not written by metashot")
    ConfigStore.instance().store(group=group, name=STORED, node=config[group])


def explained(error: Exception) -> str:
    """Our message for an error of Hydra, which also says what is allowed."""
    cause = error.__cause__ if isinstance(error, ConfigCompositionException) else error
    if isinstance(cause, InterpolationResolutionError):
        return unresolved_reference(cause)
    if isinstance(cause, ValidationError):  # Hydra's own keys have types
        given = str(error).removeprefix("Error merging override ") if cause is not error else cause.full_key
        return in_one_line(f"{given} cannot be used: {str(cause).splitlines()[0]}")
    key = getattr(cause, "full_key", None)
    parent = getattr(cause, "parent_node", None)
    if key and isinstance(parent, DictConfig):
        place, _, name = str(key).rpartition(".")
        where = f"under {place}" if place else "at the top"
        return f"unknown key {key}; allowed {where}: {one_of(filter(is_user_key, map(str, parent)), name)}"
    # Hydra's message for an unknown choice ends with the folders that it searched.
    message = str(error).partition("Config search path")[0]
    if missing := re.search(r"Could not find '([\w/]+)/(.+)'", message):
        of_hydra = missing[1].startswith(f"{HYDRA}/")
        choices = re.findall(r"^\t(.+)", message, re.MULTILINE) if of_hydra else choices_of(CONF, missing[1])
        return unknown_choice(missing[1], missing[2], choices)
    return in_one_line(" ".join(message.split())) or type(error).__name__
