"""Random numbers of training episodes: the same in any batch, and those of the distributions."""

import torch

from metashot.algorithms.model.draws import Draws


def test_numbers_depend_on_purpose_and_episode_alone() -> None:
    like = torch.zeros((), dtype=torch.float64)
    together = Draws("leo", torch.tensor([7, 3, 2**40])).normal(like, 2, 3)
    assert together.shape == (3, 2, 3)
    assert together.dtype == torch.float64
    for place, number in enumerate((7, 3, 2**40)):
        assert torch.equal(Draws("leo", torch.tensor([number])).normal(like, 2, 3)[0], together[place])
    assert not torch.equal(together[0], together[1])
    assert not torch.equal(Draws("other", torch.tensor([7])).normal(like, 2, 3)[0], together[0])


def test_a_stream_goes_on() -> None:
    draws, like = Draws("leo", torch.tensor([1])), torch.zeros(())
    assert not torch.equal(draws.normal(like, 4), draws.normal(like, 4))


def test_numbers_are_those_of_a_standard_normal_distribution() -> None:
    drawn = Draws("leo", torch.arange(100)).normal(torch.zeros(()), 1000)
    assert abs(drawn.mean()) < 0.01
    assert abs(drawn.std() - 1) < 0.01


def test_dropout_leaves_out_its_share_and_keeps_the_mean() -> None:
    x = torch.ones(50, 1000)
    left = Draws("leo", torch.arange(50)).dropout(x, 0.3)
    assert abs((left == 0).double().mean() - 0.3) < 0.01
    torch.testing.assert_close(left[left > 0], torch.full_like(left[left > 0], 1 / 0.7))
    assert Draws("leo", torch.arange(50)).dropout(x, 0.0) is x
