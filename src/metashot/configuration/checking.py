"""A configuration as a whole, checked against the signatures of what it describes before any of that is imported."""

from collections.abc import Mapping
from typing import Annotated, Any, get_args

from metashot.arguments import Matching, Node, Seed, check_value
from metashot.bad_input import BadInput, one_of
from metashot.configuration import signatures
from metashot.configuration.buildable import TARGET, refuse_misplaced, target_of

# What the program adds itself to the arguments that a group of the configuration gives.
SUPPLIED: Mapping[str, frozenset[str]] = {
    "backbone": frozenset({"input_shape"}),
    "data": frozenset({"seed"}),
    "engine": frozenset(),
    "algo": frozenset({"backbone", "problem", "engine"}),
    "trainer": frozenset(),
    "logger": frozenset(),
}
GROUPS = tuple(SUPPLIED)
# Keys of a group that the program reads itself, and that the group's class is not given.
KEPT: Mapping[str, frozenset[str]] = {"algo": frozenset({"name"})}
# Names become parts of files' and folders' names.
Name = Annotated[str, Matching(r"[A-Za-z0-9][\w.+-]{0,99}", "of letters, digits, _, -, + and dots, at most 100")]

Container = dict[str, Any]


def check(config: Container) -> None:
    """Refuse a configuration with a key, a type or a value that cannot be used, before anything is imported or built."""
    refuse_misplaced(config)
    if "algo" in config and "data" in config:
        refuse_other_problem(config)  # first: of two wrong choices it says more than a key does
    check_value(config.get("seed"), Seed, "seed")
    for group in GROUPS:
        if group in config:
            check_group(config[group], group)
    for group in ("algo", "data"):
        if group in config:
            check_value(config[group].get("name"), Name, f"{group}.name")


def check_group(node: Any, group: str) -> None:
    """Check a group's own node, which has keys that its class is not given, and lacks arguments that the program adds."""
    target_of(node, group)
    check_node(arguments_of_class(node, group), group, SUPPLIED[group])


def arguments_of_class(node: Container, group: str) -> Container:
    """A group's node with what its class is given."""
    return {name: value for name, value in node.items() if name not in KEPT.get(group, ())}


def check_node(node: Any, key: str, supplied: frozenset[str] = frozenset()) -> None:
    """Check one object's arguments against the signature of its class, and the objects inside it."""
    target = target_of(node, key)
    arguments = {name: value for name, value in node.items() if name != TARGET}
    check_arguments(signatures.parameters_of(target), arguments, key, supplied)


def check_arguments(
    parameters: Mapping[str, signatures.Parameter], given: Mapping[str, Any], key: str, supplied: frozenset[str]
) -> None:
    """Refuse arguments that a class with these parameters cannot be called with. The program adds `supplied` itself."""
    allowed = {name: parameter for name, parameter in parameters.items() if name not in supplied}
    for name, value in given.items():
        if name not in allowed:
            raise BadInput(f"unknown key {key}.{name}; allowed under {key}: {one_of(allowed, name)}")
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
    """An algorithm solves some kinds of problems, and a data set poses one."""
    algorithm, data = (target_of(config[group], group) for group in ("algo", "data"))
    asks, solves = signatures.constant(data, "asks"), signatures.constant(algorithm, "solves")
    if asks not in solves:
        raise BadInput(
            f"algo={config['algo'].get('name')} cannot learn data={config['data'].get('name')}, a "
            f"{signatures.constant(asks, 'kind')} problem: choose other data, or an algorithm that can, such as algo=maml"
        )
