"""Policies' outputs against torch's distributions, and actions as functions of noise."""

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Categorical, Distribution, Independent, Normal, kl_divergence

from metashot.problems import Returns

DRAWS = 200_000
EXTREME = [[0.0, 0.0, 0.0], [100.0, 0.0, -100.0], [-1e4, 1e4, 0.0], [1e30, -1e30, 0.0], [30.0, 29.0, -40.0]]


def returns(actions: str, outputs: int = 4) -> Returns:
    return Returns(outputs, actions)  # type: ignore[arg-type]


def distribution(problem: Returns, outputs: Tensor) -> Distribution:
    if problem.actions == "discrete":
        return Categorical(logits=outputs)
    mean, log_deviation = outputs.chunk(2, -1)
    return Independent(Normal(mean, log_deviation.exp()), 1)


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.double)


def uniform(*shape: int, dtype: torch.dtype = torch.double) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.double).to(dtype)


@pytest.mark.parametrize("actions", ["discrete", "continuous"])
def test_probabilities_divergences_and_entropies_are_those_of_torch(actions: str) -> None:
    problem = returns(actions)
    old, new = drawn(3, 5, 4), drawn(3, 5, 4, seed=1)
    chosen = distribution(problem, old).sample()
    torch.testing.assert_close(problem.log_probabilities(new, chosen), distribution(problem, new).log_prob(chosen))
    expected = kl_divergence(distribution(problem, old), distribution(problem, new))
    torch.testing.assert_close(problem.divergences(old, new), expected)
    torch.testing.assert_close(problem.entropies(new), distribution(problem, new).entropy())
    assert problem.divergences(old, old).abs().max() < 1e-12


def test_choices_are_drawn_as_often_as_they_are_likely() -> None:
    problem, outputs = returns("discrete"), torch.tensor([0.5, -1.0, 2.0, 0.0], dtype=torch.double)
    found = problem.sample(outputs.expand(DRAWS, -1), uniform(DRAWS, 1)).bincount(minlength=4) / DRAWS
    chances = outputs.softmax(-1)
    assert ((found - chances).abs() < 5 * (chances * (1 - chances) / DRAWS).sqrt()).all()


def test_numbers_are_drawn_with_their_mean_and_deviation() -> None:
    problem, outputs = returns("continuous"), torch.tensor([1.0, -2.0, math.log(0.5), math.log(3.0)], dtype=torch.double)
    found = problem.sample(outputs.expand(DRAWS, -1), drawn(DRAWS, 2))
    deviations = torch.tensor([0.5, 3.0], dtype=torch.double)
    assert ((found.mean(0) - outputs[:2]).abs() < 5 * deviations / DRAWS**0.5).all()
    assert ((found.std(0) / deviations - 1).abs() < 5 / (2 * DRAWS) ** 0.5).all()


def test_more_noise_is_never_a_lower_choice_or_number() -> None:
    noise = uniform(1000, 1).sort(0).values
    assert (returns("discrete").sample(drawn(4).expand(1000, -1), noise).diff() >= 0).all()
    numbers = returns("continuous", 2).sample(drawn(2).expand(1000, -1), noise)
    assert (numbers.diff(dim=0) >= 0).all()


@pytest.mark.parametrize("actions", ["discrete", "continuous"])
def test_an_action_depends_on_its_own_outputs_and_noise_alone(actions: str) -> None:
    problem, outputs = returns(actions), drawn(6, 5, 4)
    noise = uniform(6, 5, problem.action_size)
    state = torch.get_rng_state()
    found = problem.sample(outputs, noise)
    assert torch.equal(problem.sample(outputs, noise), found)
    assert torch.equal(problem.sample(outputs[2:3, 1:4], noise[2:3, 1:4]), found[2:3, 1:4])
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("outputs", EXTREME)
def test_extreme_outputs_choose_nothing_that_has_no_probability(outputs: list[float], dtype: torch.dtype) -> None:
    """Noise close to 1 is 1 in 32 bits, and the sum of the probabilities may be less."""
    problem, logits = returns("discrete", 3), torch.tensor(outputs, dtype=dtype)
    noise = torch.tensor([[0.5 / 2**32], [0.3], [1 - 2**-24], [1 - 0.5 / 2**32]], dtype=torch.double).to(dtype)
    chosen = problem.sample(logits.expand(4, -1), noise)
    assert (logits.softmax(-1)[chosen] > 0).all()
    assert problem.log_probabilities(logits.expand(4, -1), chosen).isfinite().all()
    assert problem.entropies(logits).isfinite()
    assert problem.divergences(logits, torch.zeros_like(logits)).isfinite()
    assert problem.divergences(logits, logits) == 0


def test_choices_whose_probabilities_sum_to_less_than_1_stay_within_them() -> None:
    logits = torch.randn(2000, 50, generator=torch.Generator().manual_seed(0))
    logits[:, 40:] = -1e4
    sums = logits.softmax(-1).cumsum(-1)[:, -1]
    assert (sums < 1).any()  # else this tries nothing
    assert (returns("discrete", 50).sample(logits, torch.ones(2000, 1)) < 40).all()


def test_a_deviation_has_a_least_value() -> None:
    problem, outputs = returns("continuous", 2), torch.tensor([0.0, -1000.0], dtype=torch.double)
    assert problem.log_probabilities(outputs, torch.zeros(1).double()) == pytest.approx(
        -math.log(1e-6) - math.log(2 * math.pi) / 2
    )
    assert problem.divergences(outputs, outputs) == 0


@pytest.mark.parametrize("actions", ["discrete", "continuous"])
def test_mode_is_the_most_likely_action(actions: str) -> None:
    problem, outputs = returns(actions), drawn(50, 4)
    best = problem.log_probabilities(outputs, problem.mode(outputs))
    others = problem.sample(outputs, uniform(50, problem.action_size))
    assert (best >= problem.log_probabilities(outputs, others)).all()


def test_score_is_the_mean_return() -> None:
    problem, answers = returns("discrete"), torch.tensor([[1.0, 2, 6], [0, 0, -3]])
    assert problem.score_of(problem.statistics(answers, answers)).tolist() == [3, -1]
    trials = torch.tensor([[10.0, 20, 60], [0, 0, -30]])
    assert problem.measures_of(problem.statistics_of_trials(answers, trials))["trial_return"].tolist() == [30, -10]
    assert problem.losses(answers, answers).tolist() == (-answers).tolist()


def test_a_diverged_policy_makes_no_choice() -> None:
    outputs = torch.tensor([[0.0, float("nan"), 1.0], [0.0, 0.5, 1.0]])
    problem = Returns(3, "discrete")
    assert problem.mode(outputs).tolist() == [-1, 2]
    assert problem.sample(outputs, torch.full((2, 1), 0.999)).tolist() == [-1, 2]
