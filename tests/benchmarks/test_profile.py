"""The parts of a profiled step are found, whichever operations compute it."""

import pytest

from benchmarks import profile
from metashot.kernels.images import are_available


@pytest.mark.parametrize("fused", [False, pytest.param(True, marks=pytest.mark.skipif(not are_available(), reason="no C"))])
@pytest.mark.parametrize("work", ["maml", "protonet"])
def test_every_part_of_a_step_is_recognised(work: str, fused: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profile, "STEPS", 1)
    monkeypatch.setattr(profile, "TASKS", 1)
    monkeypatch.setattr(profile, "QUERIES", 1)
    monkeypatch.setattr(profile, "INNER_STEPS", 1)
    monkeypatch.setitem(profile.WORKS, work, (work, 8))
    found = profile.profiled(work, fused)
    assert set(profile.PARTS) <= set(found.parts)
    assert all(found.parts[part] > 0 for part in profile.PARTS)
    assert found.total > 0
