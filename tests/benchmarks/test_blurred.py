"""What the benchmark of blurred drawings measures is what it says."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

import metashot
from benchmarks import blurred
from benchmarks.blurred import answers_from_blurred, compared, drawing
from metashot.bad_input import BadInput
from metashot.episodes import Examples
from tests.algorithms.test_vae_images import drawings, made
from tests.applied.learners import tiny


@pytest.mark.parametrize("width", [0.5, 1.0, 2.5])
def test_drawings_are_blurred_as_scipy_does(width: float) -> None:
    x = torch.rand(3, 2, 9, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = gaussian_filter(x.numpy(), width, mode="constant", axes=(2, 3), radius=int(np.ceil(3 * width)))
    np.testing.assert_allclose(blurred.blurred(x, width).numpy(), expected, rtol=1e-9, atol=1e-12)
    assert torch.equal(blurred.blurred(x, 0.0), x)


def test_only_the_support_set_is_blurred_and_nothing_is_made() -> None:
    algorithm, episode = made(), drawings(1, 6, 5)
    support = episode.support
    by_hand = [gaussian_filter(x.view(6, 5).numpy(), 1.5, mode="constant", radius=5) for x in support.x.flatten(0, 1)]
    soft = Examples(torch.from_numpy(np.stack(by_hand)).view(support.x.shape), support.y)
    algorithm.made = 0
    torch.testing.assert_close(
        answers_from_blurred(algorithm, episode, 1.5), algorithm.answers_to(replace(episode, support=soft))
    )
    unchanged = algorithm.answers_to(episode)
    torch.testing.assert_close(answers_from_blurred(algorithm, episode, 0.0), unchanged)
    assert not torch.allclose(answers_from_blurred(algorithm, episode, 1.5), unchanged)


def test_a_row_has_the_paired_gain_of_made_drawings() -> None:
    row = compared("blurred", [0.5, 0.6, 0.7], [0.6, 0.8, 0.7])
    assert row.accuracy == pytest.approx(0.6)
    assert row.made_gains == pytest.approx(0.1)
    assert row.made_gains_ci95 is not None


def test_learners_that_make_no_drawings_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(BadInput, match="algo=vae_images"):
        drawing(metashot.load(tiny(tmp_path, "protonet", "running")))
    for arguments, words in (
        (["--ckpt", str(tmp_path / "none")], "--ckpt"),
        (["--ckpt", "x", "--episodes", "1"], "--episodes 1: allowed: at least 2"),
    ):
        with pytest.raises(SystemExit):
            blurred.run(arguments)
        assert words in capsys.readouterr().err
