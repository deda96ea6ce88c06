"""`engine=auto`, with learn2learn and without it."""

import pytest

from metashot.bad_input import BadInput
from metashot.engines import choice, learn2learn
from metashot.engines.batched import Batched
from metashot.engines.choice import Auto
from metashot.engines.learn2learn import Learn2Learn

LARGE_IMAGE, SMALL_IMAGE = (3, 84, 84), (1, 28, 28)


def test_auto_takes_learn2learn_for_large_images_on_a_cpu_and_nothing_else() -> None:
    auto = Auto()
    assert isinstance(auto.chosen("cpu", LARGE_IMAGE), Learn2Learn)
    assert auto.description("cpu", LARGE_IMAGE) == "learn2learn, task by task (chosen by auto)"
    for device, shape in (("cuda", LARGE_IMAGE), ("cpu", SMALL_IMAGE), ("cpu", (100_000,))):
        assert isinstance(auto.chosen(device, shape), Batched)


def test_without_learn2learn_auto_computes_all_tasks_at_once_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (choice, learn2learn):
        monkeypatch.setattr(module, "is_installed", lambda: False)
    auto = Auto()
    assert isinstance(auto.chosen("cpu", LARGE_IMAGE), Batched)
    assert "learn2learn is not installed" in auto.description("cpu", LARGE_IMAGE)
    assert "not installed" not in auto.description("cpu", SMALL_IMAGE)  # where it would not have been chosen


def test_without_learn2learn_its_engine_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learn2learn, "is_installed", lambda: False)
    with pytest.raises(BadInput, match=r"pip install 'metashot\[learn2learn\]'"):
        Learn2Learn()
