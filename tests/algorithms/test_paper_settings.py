"""What an algorithm is set to goes by its paper, for drawings and for photographs, and a user's own setting wins."""

from typing import Any

import pytest

from metashot import configuration
from metashot.configuration.buildable import CONF
from tests.cli.combinations.runs import choices, engines_of, kind_of
from tests.configuration.test_configuration import composed

PHOTOGRAPHS = ("cifarfs", "fc100", "miniimagenet", "tieredimagenet", "cub", "folder")
ADAPTING = [
    algo
    for algo in choices("algo")
    if engines_of(algo) != ["auto"] and kind_of(algo).trains and kind_of(algo).answers_queries
]
REPTILE: dict[str, Any] = {"inner_lr": 0.001, "inner_steps": 8, "inner_batch": 10, "test_inner_steps": 50}
# On miniImageNet, 5-way 1-shot.
PAPERS: dict[str, dict[str, Any]] = {
    "maml": {"inner_lr": 0.01, "inner_steps": 5, "test_inner_steps": 10},
    "fomaml": {"inner_lr": 0.01, "inner_steps": 5, "test_inner_steps": 10, "first_order": True},
    "anil": {"inner_lr": 0.01, "inner_steps": 5, "test_inner_steps": 10, "adapts": ["head.*"]},
    "boil": {"inner_lr": 0.5, "inner_steps": 1, "test_inner_steps": 1, "adapts": ["backbone.*"]},
    "mamlpp": {"inner_lr": 0.01, "inner_steps": 5, "test_inner_steps": 5, "learned_step_sizes": True},
    "metasgd": {"inner_lr": 0.005, "inner_lr_until": 0.1, "inner_steps": 1},
    "hyper": {"inner_lr": 0.01, "inner_steps": 5, "test_inner_steps": 10},
    "metalstm": {"inner_lr": 0.01, "inner_steps": 12, "test_inner_steps": 12, "first_order": True},
    "reptile": REPTILE,
    "average": REPTILE,
}


def same(algo: dict[str, Any], paper: dict[str, Any]) -> None:
    assert {key: algo[key] for key in paper} == paper


@pytest.mark.parametrize("algo", ADAPTING)
def test_each_gradient_learner_has_its_papers_settings_for_photographs(algo: str) -> None:
    assert (CONF / "paper" / "photographs" / f"{algo}.yaml").is_file()
    config = composed("train", f"algo={algo}", "data=miniimagenet")
    configuration.check(config)
    same(config["algo"], PAPERS[algo])
    assert config["algo"]["name"] == algo
    assert config["algo"]["optimizer"]["lr"] == (1.0 if algo == "reptile" else 0.001)
    if algo in ("reptile", "average"):
        assert (config["algo"]["inner_optimizer"]["name"], config["algo"]["inner_optimizer"]["momentum"]) == ("adam", 0.0)
    else:
        assert config["data"]["train"]["queries"] is None  # 15, as in tests


@pytest.mark.parametrize("data", PHOTOGRAPHS)
def test_every_set_of_photographs_chooses_them(data: str) -> None:
    same(composed("train", "algo=maml", f"data={data}")["algo"], PAPERS["maml"])


@pytest.mark.parametrize("data", ["glyphs", "omniglot"])
def test_drawings_keep_the_settings_of_the_algorithms_own_file(data: str) -> None:
    config = composed("train", "algo=maml", f"data={data}")
    same(config["algo"], {"inner_lr": 0.4, "inner_steps": 1, "test_inner_steps": 5})


def test_a_users_setting_wins_over_the_papers_and_the_other_kind_can_be_chosen() -> None:
    own = composed("train", "algo=maml", "data=cifarfs", "algo.inner_lr=0.3", "data.train.queries=4")
    assert (own["algo"]["inner_lr"], own["algo"]["inner_steps"], own["data"]["train"]["queries"]) == (0.3, 5, 4)
    assert composed("train", "algo=maml", "data=folder", "images=drawings")["algo"]["inner_lr"] == 0.4
    assert composed("train", "algo=maml", "images=photographs")["algo"]["inner_lr"] == 0.01
    assert composed("train", "experiment=inner_loop_search", "data=cifarfs")["algo"]["inner_lr"] == 0.01
    assert "images" not in own  # what is chosen is no key, which older runs would lack when they are resumed


def test_reptile_has_the_papers_optimisers() -> None:
    for given in ("algo=reptile", "experiment=reptile_omniglot"):
        algo = composed("train", given)["algo"]
        assert [algo["inner_optimizer"][key] for key in ("name", "momentum")] == ["adam", 0.0]
        assert [algo["optimizer"][key] for key in ("name", "lr", "momentum", "schedule")] == ["sgd", 1.0, 0.0, "linear"]
        assert algo["carries_squares"]


def test_algorithms_without_an_inner_loop_are_the_same_on_photographs() -> None:
    for algo in ("protonet", "baselinepp", "finetune"):
        assert composed("train", f"algo={algo}", "data=cifarfs")["algo"] == composed("train", f"algo={algo}")["algo"]


def test_baselines_have_the_settings_of_the_authors_code() -> None:
    algo = composed("train", "algo=baselinepp")["algo"]
    assert (algo["scale"], algo["weight_normalisation"]) == (None, True)
    for name in ("baseline", "baselinepp"):
        fit = composed("train", f"algo={name}")["algo"]["fit"]
        assert [fit[key] for key in ("steps", "lr", "momentum", "dampening", "weight_decay")] == [100, 0.01, 0.9, 0.9, 0.001]


@pytest.mark.parametrize(
    ("algo", "key"), [("baselinepp", "weight_normalisation"), ("baseline", "fit.dampening"), ("metasgd", "inner_lr_until")]
)
def test_checkpoints_from_before_these_keys_are_still_read(algo: str, key: str) -> None:
    config = composed("train", f"algo={algo}")
    node = config["algo"]["fit"] if key.startswith("fit.") else config["algo"]
    del node[key.removeprefix("fit.")]
    configuration.check(config)
