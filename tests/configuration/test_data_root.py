"""Every data set that has files takes METASHOT_DATA as the default of `data.root`, those of plug-ins among them."""

from pathlib import Path

import pytest

from metashot.checkpoints.recipes import LOOKING
from metashot.configuration import buildable, plugins
from metashot.configuration.buildable import CONF
from metashot.configuration.composing import composed
from metashot.configuration.overrides import choices_of

PLUGIN = Path(__file__).resolve().parents[1] / "plugin"
VALUE = "/a folder, [of] 'all' = \"sets\""


@pytest.fixture(autouse=True)
def nothing_enabled(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a new process."""
    monkeypatch.setattr(plugins, "_enabled", {})
    monkeypatch.setattr(buildable, "_conf_folders", [buildable.CONF])


def roots(name: str, monkeypatch: pytest.MonkeyPatch, *given: str) -> list[object]:
    """`data.root` where METASHOT_DATA is set, empty and not set; None where the data set has no such key."""
    found = []
    for value in (VALUE, "", None):
        if value is None:
            monkeypatch.delenv("METASHOT_DATA")
        else:
            monkeypatch.setenv("METASHOT_DATA", value)
        found.append(composed(LOOKING, [f"data={name}", *given])["data"].get("root"))
    return found


@pytest.mark.parametrize("name", choices_of(CONF, "data"))
def test_the_variable_is_the_default_of_every_data_set_with_files(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = roots(name, monkeypatch)
    assert found in ([VALUE, "data", "data"], [None] * 3, ["data"] * 3)
    assert (found == ["data"] * 3) == (name == "glyphs")


def test_a_plugin_inherits_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(PLUGIN)
    assert roots("stripes", monkeypatch, "plugins=[stripes]") == [VALUE, "data", "data"]


def test_what_is_given_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    assert roots("omniglot", monkeypatch, "data.root=mine") == ["mine"] * 3
