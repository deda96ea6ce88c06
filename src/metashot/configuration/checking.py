"""Checks a configuration against the signatures of the classes that it names, without importing them."""

from collections.abc import Mapping
from typing import Annotated, Any, get_args

from metashot.arguments import Matching, Node, Seed, check_value
from metashot.bad_input import BadInput, one_of
from metashot.configuration import signatures
from metashot.configuration.buildable import TARGET, choice_of_backbone, refuse_misplaced, target_of
from metashot.sources.worlds.requiring import refuse_missing

# The arguments that the program adds to those in a group of the configuration.
SUPPLIED: Mapping[str, frozenset[str]] = {
    "backbone": frozenset({"input_shape"}),
    "data": frozenset({"seed"}),
    "engine": frozenset(),
    "algo": frozenset({"backbone", "problem", "engine"}),
    "trainer": frozenset(),
    "logger": frozenset(),
}
GROUPS = tuple(SUPPLIED)
# Keys of a group that the program reads itself, and does not pass to the class.
KEPT: Mapping[str, frozenset[str]] = {"algo": frozenset({"name"})}
# Names become parts of file and folder names.
Name = Annotated[str, Matching(r"[A-Za-z0-9][\w.+-]{0,99}", "of letters, digits, _, -, + and dots, at most 100")]

Container = dict[str, Any]


def check(config: Container) -> None:
    """Check a configuration before anything is imported or built.

    Args:
        config: the resolved configuration.

    Raises:
        BadInput: a key, a type or a value cannot be used.
    """
    refuse_misplaced(config)
    if "algo" in config and "data" in config:
        refuse_other_problem(config)  # first, since its message is the more helpful one
        refuse_for_policies(config)
    check_value(config.get("seed"), Seed, "seed")
    for group in GROUPS:
        if group in config:
            check_group(config[group], group)
    for group in ("algo", "data"):
        if group in config:
            check_value(config[group].get("name"), Name, f"{group}.name")
    if "data" in config:
        _refuse_missing_packages(config["data"])


def _refuse_missing_packages(data: Container) -> None:
    """Refuse a source that needs a package which is not installed."""
    source = data.get("source")
    if not isinstance(source, dict) or TARGET not in source:
        return
    try:
        needed = signatures.constant(target_of(source, "data.source"), "needs")
    except AttributeError:  # as of sources of images
        return
    for package in needed:
        refuse_missing(package, data["name"])


def check_group(node: Any, group: str) -> None:
    """Check the node of a group, such as `algo`.

    Args:
        node: the node.
        group: the name of the group.

    Raises:
        BadInput: a key, a type or a value cannot be used.
    """
    target_of(node, group)
    check_node(arguments_of_class(node, group), group, SUPPLIED[group])


def arguments_of_class(node: Container, group: str) -> Container:
    """The node of a group with only the arguments of its class."""
    return {name: value for name, value in node.items() if name not in KEPT.get(group, ())}


def check_node(node: Any, key: str, supplied: frozenset[str] = frozenset()) -> None:
    """Check the arguments in a node, and in the nodes below it, against the signatures of their classes."""
    target = target_of(node, key)
    arguments = {name: value for name, value in node.items() if name != TARGET}
    check_arguments(signatures.parameters_of(target), arguments, key, supplied)


def check_arguments(
    parameters: Mapping[str, signatures.Parameter], given: Mapping[str, Any], key: str, supplied: frozenset[str]
) -> None:
    """Check arguments against parameters.

    Args:
        parameters: the parameters of a class.
        given: the arguments in the configuration.
        key: the key of the node, for messages.
        supplied: the names of the arguments that the program adds.

    Raises:
        BadInput: an argument is unknown, missing or not allowed.
    """
    allowed = {name: parameter for name, parameter in parameters.items() if name not in supplied}
    for name, value in given.items():
        if name not in allowed:
            others = one_of(allowed, name) if allowed else "nothing, as it has no settings"
            raise BadInput(f"unknown key {key}.{name}; allowed under {key}: {others}")
        _check_argument(value, allowed[name].annotation, f"{key}.{name}")
    missing = [name for name, parameter in allowed.items() if parameter.required and name not in given]
    if missing:
        raise BadInput(f"missing key {key}.{missing[0]}, which has no default")


def _check_argument(value: Any, hint: Any, key: str) -> None:
    kinds = [kind for kind in (hint, *get_args(hint)) if isinstance(kind, type) and issubclass(kind, Node)]
    if not kinds:
        check_value(value, hint, key)
        return
    if value is None and hint is not kinds[0]:
        return
    if not isinstance(value, dict) or TARGET not in value:
        below = ", ".join(signatures.parameters_of(kinds[0].target))
        check_value(value, hint, key, f"keys below it ({below})" if below else "keys below it")
        return
    target = target_of(value, key)
    if not any(signatures.derives_from(target, kind.target) for kind in kinds):
        raise BadInput(f"{key}.{TARGET}={target} cannot be built there; allowed: a {kinds[0].__name__}")
    check_node(value, key)


def refuse_other_problem(config: Container) -> None:
    """Refuse a data set whose problem the algorithm does not solve."""
    algorithm, data = (target_of(config[group], group) for group in ("algo", "data"))
    asks, solves = signatures.constant(data, "asks"), signatures.constant(algorithm, "solves")
    if asks not in solves:
        raise BadInput(
            f"algo={config['algo'].get('name')} cannot learn data={config['data'].get('name')}, a "
            f"{signatures.constant(asks, 'kind')} problem: choose other data, such as "
            f"{signatures.constant(solves[0], 'usual_data')}, or an algorithm that can, such as "
            f"{signatures.constant(asks, 'usual_algorithm')}"
        )


def refuse_for_policies(config: Container) -> None:
    """Refuse settings that have no meaning for an algorithm that acts in worlds."""
    algorithm = target_of(config["algo"], "algo")
    if signatures.constant(algorithm, "answers_queries"):
        return
    name, trainer = config["algo"].get("name"), config.get("trainer", {})
    if (precision := str(trainer.get("precision"))).endswith("-mixed"):
        raise BadInput(
            f"trainer.precision={precision} cannot be used by algo={name}, since the probabilities of actions need more "
            "digits: give 32-true or 64-true"
        )
    if config["algo"].get("outer") == "trpo" and trainer.get("gradient_clip") is not None:
        raise BadInput(
            f"trainer.gradient_clip={trainer['gradient_clip']} has no meaning for algo.outer=trpo, whose steps are limited "
            "by algo.trpo.max_divergence: leave it out, or give algo.outer=ppo"
        )
    if config.get("freeze_backbone") is True:
        raise BadInput(f"freeze_backbone=true cannot be used by algo={name}, which trains its whole policy: leave it out")
    backbone = target_of(config.get("backbone"), "backbone")
    if backbone.startswith("metashot.") and not signatures.constant(backbone, "of_vectors"):
        raise BadInput(
            f"backbone={choice_of_backbone(backbone)} does not read the observations of data="
            f"{config['data'].get('name')}, which are vectors: leave it out, or give backbone=mlp_policy or identity"
        )
