"""The configuration: what is refused before anything is built, and that every file of conf/ is not."""

import contextlib
import copy
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import OmegaConf

from metashot import configuration
from metashot.algorithms.gradient.maml import MAML
from metashot.algorithms.metric.protonet import ProtoNet
from metashot.backbones.mlp import MLP
from metashot.bad_input import BadInput
from metashot.configuration.buildable import CONF, choice_of_backbone
from metashot.configuration.signatures import parameters_of
from metashot.configuration.suggestions import suggestions_where_they_fit
from metashot.engines.learn2learn import Learn2Learn
from metashot.evaluation.checks import check_of_evaluation
from metashot.problems import Classification

SCRIPTS = ("train", "evaluate", "look")
OF_NUMBERS = ("cnp", "anp")  # which learn no classes
OF_WORLDS = {path.stem for path in (CONF / "data").glob("*.yaml") if "base/worlds" in path.read_text()}
CHOICES = [(path.parent.name, path.stem) for path in sorted(CONF.glob("*/*.yaml"))]


def composed(script: str, *overrides: str) -> configuration.Container:
    """The configuration of a script: a test's own, which is composed once for all that want the same one."""
    return copy.deepcopy(_composed(script, overrides))


@cache
def _composed(script: str, overrides: tuple[str, ...]) -> configuration.Container:
    GlobalHydra.instance().clear()
    with suggestions_where_they_fit(), initialize_config_dir(str(CONF), version_base="1.3"):
        made = compose(script, overrides=["folder=runs/test", *overrides] if script == "train" else list(overrides))
    return configuration.plain(made)


def has_group(script: str, group: str) -> bool:
    entries = OmegaConf.load(CONF / f"{script}.yaml").defaults
    return any(group in entry for entry in entries if not isinstance(entry, str))


@pytest.fixture(scope="module")
def stored() -> configuration.Container:
    return composed("train", "algo=maml")


@pytest.fixture
def config(stored: configuration.Container) -> configuration.Container:
    return copy.deepcopy(stored)


def changed(config: configuration.Container, key: str, value: Any) -> configuration.Container:
    *above, last = key.split(".")
    node = config
    for name in above:
        node = node[name]
    node[last] = value
    return config


CALLS = [(script, group, choice) for script in SCRIPTS for group, choice in CHOICES if has_group(script, group)]


@pytest.mark.parametrize(("script", "group", "choice"), CALLS, ids=[f"{s} {g}={c}" for s, g, c in CALLS])
def test_every_choice_of_every_group_composes_and_is_accepted(script: str, group: str, choice: str) -> None:
    check = check_of_evaluation if script == "evaluate" else configuration.check  # the former may leave the seed open
    data = ["data=curves"] if choice in OF_NUMBERS else []
    acting = ["algo=maml_rl"] if group == "data" and choice in OF_WORLDS and has_group(script, "algo") else []
    check(composed(script, f"{group}={choice}", *data, *acting))


@pytest.mark.parametrize("algo", ["maml", "r2d2", "reptile"])
def test_an_algorithms_file_suggests_only_what_the_data_have(algo: str) -> None:
    of_images, of_curves = (
        composed("train", f"algo={algo}", f"data={data}", "backbone=mlp") for data in ("glyphs", "sinusoid")
    )
    own = composed("train", "data=sinusoid", "algo=maml")["data"]
    configuration.check(of_curves)
    assert {key: set(split) for key, split in of_curves["data"].items() if isinstance(split, dict)} == {
        key: set(split) for key, split in own.items() if isinstance(split, dict)
    }
    for key in own["train"].keys() - {"_target_"}:
        assert of_curves["data"]["train"][key] == of_images["data"]["train"][key]
    for other in ("algo", "backbone", "trainer"):
        assert of_curves[other] == of_images[other]


@pytest.mark.parametrize("script", ["predict", "page"])
def test_a_script_without_data_gets_none_from_an_algorithms_file(script: str) -> None:
    config = composed(script, "algo=r2d2")
    assert config["algo"]["name"] == "r2d2"
    assert not {"data", "trainer"} & set(config)


@pytest.mark.parametrize("algo", ["maml", "protonet"])
@pytest.mark.parametrize("backbone", ["conv4", "mlp"])
def test_a_checked_configuration_can_be_built(algo: str, backbone: str) -> None:
    config = composed("train", f"algo={algo}", f"backbone={backbone}", "trainer=cpu")
    configuration.check(config)
    data = configuration.build(config["data"], seed=config["seed"])
    assert data.specs["val"].ways == config["data"]["ways"]
    network = configuration.build(config["backbone"], input_shape=data.input_shape)
    algorithm = configuration.build_algorithm(config, backbone=network, problem=data.problem)
    assert type(algorithm) is {"maml": MAML, "protonet": ProtoNet}[algo]
    assert network.normalisation == ("transductive" if algo == "maml" else "running")


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "builtins.eval",
        "eval",
        "metashot",
        "metashot.",
        "metashotty.algorithms.MAML",
        "metashot.sources.building.os.system",
        "metashot.sources.building.os",
        "metashot.sources.building.shutil.rmtree",
        "metashot.sources.building.ProcessPoolExecutor",
        "metashot.sources.building.Path",
        "metashot.configuration.instantiate",
        "metashot.configuration.importlib.import_module",
        "metashot.bad_input.difflib",
        "metashot.episodes.__builtins__",
        "metashot.algorithms.gradient.maml.MAML.__init__.__globals__",
        "metashot..algorithms.gradient.maml.MAML",
        "metashot.algorithms.gradient.maml.MAMML",
        "metashot.nowhere.MAML",
        "",
        None,
        3,
        ["os.system"],
    ],
)
@pytest.mark.parametrize("key", ["algo", "algo.optimizer", "data.source"])
def test_only_classes_and_functions_of_metashot_are_built(config: configuration.Container, key: str, target: Any) -> None:
    with pytest.raises(BadInput, match=f"{key}._target_="):
        configuration.check(changed(config, f"{key}._target_", target))


def hidden_in_a_dictionary(call: dict[str, Any]) -> Any:
    return {"hidden": call}


def hidden_in_a_list(call: dict[str, Any]) -> Any:
    return [call]


def hidden_deeply(call: dict[str, Any]) -> Any:
    return {"hidden": [{"deeper": [call]}]}


@pytest.mark.parametrize("hide", [hidden_in_a_dictionary, hidden_in_a_list, hidden_deeply])
@pytest.mark.parametrize("key", ["data.source", "data.val", "algo.optimizer", "backbone.channels", "logger.tags"])
def test_a_configuration_that_was_checked_runs_no_foreign_code_when_it_is_built(
    config: configuration.Container, tmp_path: Path, key: str, hide: Callable[[dict[str, Any]], Any]
) -> None:
    trace = tmp_path / "code-was-run"
    changed(config, key, hide({"_target_": "os.mkdir", "path": str(trace)}))
    group = key.split(".")[0]
    supplied = {
        "data": {"seed": 0},
        "backbone": {"input_shape": (1, 28, 28)},
        "algo": {"backbone": MLP((1, 2, 2), [3], "running"), "problem": Classification(5), "engine": Learn2Learn()},
    }
    with contextlib.suppress(BadInput, HydraException):  # refusing is right; what counts is that nothing runs
        configuration.check(config)
        configuration.build(config[group], **supplied.get(group, {}))
    assert not trace.exists()


@pytest.mark.parametrize(
    ("key", "value", "allowed"),
    [
        ("seed", -1, "a whole number of at least 0 and at most 4294967295"),
        ("seed", 2**32, "at most 4294967295"),
        ("seed", None, "a whole number"),
        ("seed", True, "a whole number"),
        ("data.ways", 1, "at least 2"),
        ("data.shots", 0, "at least 1"),
        ("data.shots", 1.0, "a whole number"),
        ("data.shots", "1", "a whole number"),
        ("data.val.episodes", 0, "at least 1"),
        ("data.val.ways", 1, "at least 2 and at most 100000 or a list"),
        ("data.tasks_per_step", -4, "at least 1"),
        ("data.source.examples", 0, "at least 1"),
        ("algo.inner_lr", 0, "a number above 0"),
        ("algo.inner_lr", float("nan"), "a number above 0"),
        ("algo.inner_lr", "fast", "a number above 0"),
        ("algo.inner_steps", 0, "at least 1"),
        ("algo.first_order", 1, "true or false"),
        ("algo.first_order", "false", "true or false"),
        ("algo.optimizer.lr", -0.1, "a number above 0"),
        ("algo.optimizer.weight_decay", -1, "at least 0"),
        ("algo.optimizer.name", "adamm", "adam, adamw, sgd"),
        ("backbone.normalisation", None, "transductive, running, support"),
        ("backbone.channels", ["64"], "of at least 1 and at most 2048 or a list, each a whole number of at least 1"),
        ("trainer.precision", 32, "32-true, bf16-mixed"),
        ("trainer.gradient_clip", 0, "a number above 0 and at most 1e+30 or null"),
        ("data.unequal_support", 1e308, "at least 1e-06 and at most 1000000 or null"),
        ("data.train.unequal_queries", 1e-320, "at least 1e-06"),
        ("algo.inner_lr", 10**400, "a number above 0"),
        ("trainer.accelerator", "tpu", "cpu, gpu"),
        ("logger.tags", "one", "a list"),
        ("logger.tags", ["one", 2], "a list, each text"),
    ],
)
def test_a_value_out_of_range_names_the_key_and_what_is_allowed(
    config: configuration.Container, key: str, value: Any, allowed: str
) -> None:
    with pytest.raises(BadInput) as refused:
        configuration.check(changed(config, key, value))
    assert str(refused.value).startswith(f"{key}=")
    assert allowed in str(refused.value)


SIZES = {
    "algo=maml": (
        *(
            "data.tasks_per_step",
            "data.tasks_per_evaluation_step",
            "data.presentation.augmentation.crop_padding",
            "data.val.episodes",
        ),
        *("data.test.episodes", "data.ways", "data.shots", "data.queries", "data.train.batch", "data.train.queries"),
        *("data.source.image_size", "data.source.examples", "backbone.channels", "trainer.max_steps"),
        *("trainer.validate_every", "trainer.checkpoint_every", "trainer.log_every", "trainer.devices", "trainer.nodes"),
        *("trainer.stop_after_non_finite", "trainer.early_stopping", "algo.optimizer.step_size", "algo.inner_steps"),
        *("algo.test_inner_steps", "algo.inner_batch"),
    ),
    "algo=mamlpp": ("algo.inner_steps",),
    "algo=siamese": ("algo.hidden", "algo.neighbours"),
    "algo=relation": ("algo.channels", "algo.hidden"),
    "algo=matching": ("algo.reading_steps",),
    "algo=snail": ("algo.embedding", "algo.filters", "algo.reach", "algo.keys", "algo.values"),
    "algo=leo": ("algo.latents", "algo.inner_steps", "algo.finetuning_steps"),
    "algo=cnaps": ("algo.encoding",),
    "algo=hyper": ("algo.encoding", "algo.inner_steps", "algo.test_inner_steps"),
    "algo=mann": ("algo.units", "algo.places", "algo.width", "algo.heads"),
    "algo=metalstm": ("algo.hidden",),
    "algo=baseline": ("algo.fit.steps",),
    "algo=cnp data=curves": ("algo.encoder", "algo.decoder"),
    "algo=anp data=curves": ("algo.encoder", "algo.attention", "algo.heads", "algo.latent", "algo.samples", "algo.decoder"),
    "engine=batched": ("engine.chunk",),
    "backbone=mlp": ("backbone.hidden",),
    "backbone=resnet12": ("backbone.widths", "backbone.drop_block_size"),
    "experiment=sinusoid": ("data.shots", "data.queries", "data.tasks_per_step", "data.test.episodes"),
    **{
        f"data={name}": ("data.source.image_size",)
        for name in ("omniglot", "cifarfs", "cub", "fc100", "folder", "miniimagenet", "tieredimagenet")
    },
}


@pytest.mark.parametrize("choice", SIZES)
def test_a_size_beyond_all_memory_is_refused(choice: str) -> None:
    config = composed("train", *choice.split())
    configuration.check(config)
    for key in SIZES[choice]:
        *above, last = key.split(".")
        node = config
        for name in above:
            node = node[name]
        given = node[last]
        node[last] = [10**15] * len(given) if isinstance(given, list) else 10**15
        with pytest.raises(BadInput, match=f"^{key}=.*10{{15}}.* cannot be used; allowed: .*at most"):
            configuration.check(config)
        node[last] = given


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("seed", 2**32 - 1),
        ("algo.inner_lr", 1),
        ("algo.optimizer.weight_decay", 0),
        ("trainer.gradient_clip", None),
        ("data.val.ways", 2),
        ("logger.tags", []),
        ("backbone.normalisation", "support"),
    ],
)
def test_a_value_at_the_edge_of_what_is_allowed_is_accepted(config: configuration.Container, key: str, value: Any) -> None:
    configuration.check(changed(config, key, value))


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("algo.iner_lr", "inner_lr"),
        ("algo.optimizer.learning_rat", None),
        ("algo.optimizer.shedule", "schedule"),
        ("data.source.image_sise", "image_size"),
        ("data.test.episode", "episodes"),
        ("trainer.max_step", "max_steps"),
    ],
)
def test_an_unknown_key_is_refused_with_the_one_that_was_meant(
    config: configuration.Container, key: str, meant: str | None
) -> None:
    with pytest.raises(BadInput, match=f"unknown key {key}; allowed under ") as refused:
        configuration.check(changed(config, key, 1))
    assert (f"did you mean {meant}?" in str(refused.value)) is (meant is not None)


@pytest.mark.parametrize("key", ["algo.problem", "algo.backbone", "backbone.input_shape", "data.seed", "algo._partial_"])
def test_what_the_program_or_hydra_adds_cannot_be_given(config: configuration.Container, key: str) -> None:
    with pytest.raises(BadInput, match=f"unknown key {key}"):
        configuration.check(changed(config, key, 5))


@pytest.mark.parametrize("key", ["algo.inner_steps", "algo.optimizer.lr", "data.source.examples", "trainer.max_steps"])
def test_a_missing_key_is_named(config: configuration.Container, key: str) -> None:
    *above, last = key.split(".")
    node = config
    for name in above:
        node = node[name]
    del node[last]
    with pytest.raises(BadInput, match=f"missing key {key}, which has no default"):
        configuration.check(config)


def test_a_name_is_checked_and_kept_but_not_an_argument_of_the_class(config: configuration.Container) -> None:
    assert "name" not in parameters_of(config["algo"]["_target_"])
    for name in ("a/b", None, "", {"_target_": "os.system"}):
        with pytest.raises(BadInput, match=r"algo\.name"):
            configuration.check(changed(copy.deepcopy(config), "algo.name", name))
    made = changed(config, "algo.name", "mine")
    configuration.check(made)
    network = MLP((1, 2, 2), [3], "transductive")
    algorithm = configuration.build_algorithm(made, backbone=network, problem=Classification(5))
    assert type(algorithm) is MAML
    assert made["algo"]["name"] == "mine"


def test_differences_are_found_at_every_depth() -> None:
    old = {"seed": 0, "data": {"shots": 1, "val": {"ways": None}}, "logger": {"tags": ["a"]}}
    new = {"seed": 0, "data": {"val": {"ways": 5}}, "logger": {"tags": ["b"]}, "extra": {"key": 1}}
    assert list(configuration.differences(new, old)) == [
        ("data.shots", None, 1),
        ("data.val.ways", 5, None),
        ("extra", {"key": 1}, None),
        ("logger.tags", ["b"], ["a"]),
    ]
    assert not list(configuration.differences(old, copy.deepcopy(old)))


def test_sweep_of_wandb_and_search_of_hydra_go_over_the_same_combinations() -> None:
    sweep = yaml.safe_load((CONF / "sweep" / "inner_loop.yaml").read_text())
    search = yaml.safe_load((CONF / "experiment" / "inner_loop_search.yaml").read_text())
    by_hydra = {key: yaml.safe_load(f"[{values}]") for key, values in search["hydra"]["sweeper"]["params"].items()}
    by_wandb = {key: value["values"] for key, value in sweep["parameters"].items() if "values" in value}
    assert by_hydra == by_wandb
    assert sweep["parameters"]["algo"] == {"value": "maml"}
    assert {"override /algo": "maml"} in search["defaults"]
    assert sweep["metric"]["name"] == "val/accuracy"
    for key, values in by_wandb.items():
        for value in values:
            configuration.check(composed("train", f"{key}={value}"))


def test_messages_name_the_choice_of_a_backbone_and_not_its_class() -> None:
    for choice in ("conv4", "conv4_concatenated", "mlp", "resnet12", "textcnn", "wordvectors"):
        file = yaml.safe_load((CONF / "backbone" / f"{choice}.yaml").read_text())
        assert choice_of_backbone(file["_target_"]) == choice
    assert choice_of_backbone("somewhere.else.Their") == "their"
