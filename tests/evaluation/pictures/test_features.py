"""Features of an episode: principal components as they are defined, and a picture for whatever features there are."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from metashot.evaluation.pictures.features import features_picture, principal_components
from tests.evaluation.pictures.files import NAMES, clear_of_the_edges, words_of, written


def drawn(images: int, features: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    mixing = torch.randn(features, features, generator=generator)
    return torch.randn(images, features, generator=generator) @ mixing + 5


def written_out(features: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """By the eigenvectors of the covariance matrix."""
    x = features.double().numpy()
    x = x - x.mean(0)
    variances, vectors = np.linalg.eigh(x.T @ x)
    first = vectors[:, ::-1][:, :2]
    first = first * np.sign(first[np.abs(first).argmax(0), np.arange(first.shape[1])])
    return x @ first, variances[::-1][:2] / variances.sum()


@pytest.mark.parametrize(("images", "features"), [(40, 6), (6, 40), (30, 2), (3, 2)])
def test_principal_components_are_the_eigenvectors_of_the_covariance(images: int, features: int) -> None:
    given = drawn(images, features)
    projected, shares = principal_components(given)
    expected, expected_shares = written_out(given)
    np.testing.assert_allclose(projected.numpy(), expected, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(shares.numpy(), expected_shares, rtol=1e-6)


@pytest.mark.parametrize("factor", [1e-30, 1e30])
def test_the_size_of_features_changes_nothing_but_the_size(factor: float) -> None:
    given = drawn(20, 5)
    plain, shares = principal_components(given)
    scaled, scaled_shares = principal_components(given.double() * factor)
    torch.testing.assert_close(scaled / factor, plain, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(scaled_shares, shares, rtol=1e-5, atol=1e-5)


def test_where_there_is_no_second_component_it_is_nought() -> None:
    projected, shares = principal_components(drawn(10, 1))
    assert shares.tolist() == [pytest.approx(1), 0]
    assert projected[:, 1].tolist() == [0] * 10
    line = torch.tensor([[1.0, 2.0, 3.0]]) * torch.arange(4)[:, None]
    projected, shares = principal_components(line + 0.1)
    assert shares.tolist() == [pytest.approx(1), 0]
    assert projected[:, 1].tolist() == [0] * 4
    for constant in (torch.ones(5, 3), torch.ones(1, 3), torch.full((4, 1), 0.1)):
        projected, shares = principal_components(constant)
        assert shares.tolist() == [0, 0]
        assert projected.tolist() == [[0, 0]] * len(constant)


@pytest.mark.parametrize(
    ("ways", "shots", "queries", "features"), [(5, 5, 3, 64), (20, 1, 2, 64), (10, 1, 2, 1), (2, 1, 0, 3)]
)
def test_features_are_drawn_whatever_the_episode(tmp_path: Path, ways: int, shots: int, queries: int, features: int) -> None:
    y = torch.cat([torch.arange(ways).repeat_interleave(shots), torch.arange(ways).repeat_interleave(queries)])
    before = drawn(len(y), features).requires_grad_()
    one = written(tmp_path / "one", lambda path: features_picture(before, None, y, ways * shots, NAMES[:ways], path))
    two = written(tmp_path / "two", lambda path: features_picture(before, before * 2, y, ways * shots, NAMES[:ways], path))
    assert clear_of_the_edges(one)
    assert clear_of_the_edges(two)
    assert two.shape[1] > one.shape[1] + 400


def test_features_that_are_no_numbers_are_left_out(tmp_path: Path) -> None:
    y = torch.arange(2).repeat(5)
    some, all_of_them = drawn(10, 4), torch.full((10, 4), float("nan"))
    some[0, 1], some[3, 2] = float("nan"), float("inf")
    pixels = written(tmp_path, lambda path: features_picture(some, all_of_them, y, 2, NAMES[:2], path))
    assert clear_of_the_edges(pixels)


def test_constant_features_and_single_images_have_a_picture(tmp_path: Path) -> None:
    written(
        tmp_path / "constant",
        lambda path: features_picture(torch.ones(4, 3), None, torch.arange(2).repeat(2), 2, NAMES[:2], path),
    )
    written(
        tmp_path / "single", lambda path: features_picture(torch.ones(1, 3), None, torch.tensor([0]), 1, NAMES[:1], path)
    )


def test_classes_are_called_by_their_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    y, names = torch.arange(2).repeat(3), ["Käse", "字"]
    words = words_of(monkeypatch, lambda path: features_picture(drawn(6, 4), None, y, 2, names, path), tmp_path / "a.png")
    assert {"support set", "Käse", "class 1"} <= set(words)
    assert "class 0" not in words
