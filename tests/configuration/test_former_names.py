"""Configurations and states that earlier versions stored are read as they are written now."""

from typing import Any

from metashot.checkpoints.stored import refuse_unsafe
from metashot.configuration.former_names import bring_state_up_to_date, bring_up_to_date
from tests.configuration.test_configuration import composed


def as_stored_before_presentations(data: dict[str, Any]) -> dict[str, Any]:
    """The configuration of data as version 0.1.0 stored it, when one class sampled classes and presented pixels."""
    old = {key: dict(value) if isinstance(value, dict) else value for key, value in data.items()}
    pixels = old.pop("presentation")
    old["_target_"] = "metashot.data.images.ImageEpisodes"
    augmentation = pixels["augmentation"] | {"_target_": "metashot.data.augmentation.Augmentation"}
    old |= {"augmentation": augmentation, "mean": pixels["mean"], "std": pixels["std"]}
    for split in ("train", "val", "test"):
        kind = "TrainingOptions" if split == "train" else "SplitOptions"
        old[split]["_target_"] = f"metashot.data.images.{kind}"
    name = old["source"]["_target_"].rpartition("sources.images.")[2]
    old["source"]["_target_"] = f"metashot.data.sources.{name}"
    return old


def test_data_that_were_stored_before_presentations_are_read_as_they_are_written_now() -> None:
    for choice in ("glyphs", "cifarfs"):
        now = composed("train", f"data={choice}")["data"]
        old = as_stored_before_presentations(now)
        assert old != now
        bring_up_to_date(old)
        assert old == now


def test_a_whole_configuration_with_former_names_is_accepted() -> None:
    now = composed("train", "algo=protonet", "data=omniglot")
    old = now | {"data": as_stored_before_presentations(now["data"])}
    assert refuse_unsafe(old, "it") == now


def test_the_next_episode_of_a_data_module_under_its_former_name_is_not_lost() -> None:
    checkpoint = {"ImageEpisodes": {"next_episode": 40}}
    bring_state_up_to_date(checkpoint)
    assert checkpoint == {"ClassEpisodes": {"next_episode": 40}}


def test_values_that_are_no_names_stay_as_they_are() -> None:
    config = {"_target_": 5, "list": [{"_target_": None}], "text": "metashot.data.images.ImageEpisodes"}
    before = {**config}
    bring_up_to_date(config)
    assert config == before
