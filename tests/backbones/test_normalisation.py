"""Batch normalisation as a protocol: whose statistics normalise which images, against a recomputation image by image."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from metashot.backbones.normalisation import Normalisation, Protocol, recorded_statistics, recording_statistics

TASKS, IMAGES, SUPPORT, CHANNELS = 3, 7, 4, 2
PROTOCOLS: tuple[Protocol, ...] = ("transductive", "running", "support", "support_later")
SHAPES = [(), (3, 2)]  # of one channel of an image: a linear layer's and a convolution's output


def module(protocol: Protocol) -> Normalisation:
    torch.manual_seed(0)
    made = Normalisation(CHANNELS, protocol).double()
    with torch.no_grad():
        made.weight.copy_(torch.tensor([1.5, -0.4], dtype=torch.float64))
        made.bias.copy_(torch.tensor([0.3, 2.0], dtype=torch.float64))
    if protocol == "running":
        made.running_mean.copy_(torch.tensor([0.7, -1.1], dtype=torch.float64))
        made.running_var.copy_(torch.tensor([0.2, 3.0], dtype=torch.float64))
    return made


def inputs(shape: tuple[int, ...], images: int = IMAGES) -> Tensor:
    """[TASKS * images, CHANNELS, *shape], with other statistics in each task, channel and role."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(TASKS, images, CHANNELS, *shape, generator=generator, dtype=torch.float64)
    return (x * torch.arange(1, TASKS * images + 1).reshape(TASKS, images, 1, *[1] * len(shape)) + 2).flatten(0, 1)


def by_hand(x: Tensor, reference: slice, normalisation: Normalisation) -> NDArray[np.float64]:
    """(x - mean) / sqrt(variance + 1e-5) * weight + bias with the statistics of each task's `reference` images."""
    values = x.numpy().reshape(TASKS, -1, CHANNELS, *x.shape[2:])
    answer = np.empty_like(values)
    for task in range(TASKS):
        for channel in range(CHANNELS):
            known = values[task, reference, channel]
            mean = known.sum() / known.size
            variance = ((known - mean) ** 2).sum() / known.size
            scale, shift = normalisation.weight[channel].item(), normalisation.bias[channel].item()
            answer[task, :, channel] = (values[task, :, channel] - mean) / np.sqrt(variance + 1e-5) * scale + shift
    return answer.reshape(x.shape)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("training", [True, False])
def test_transductive_normalises_each_task_by_all_of_its_images(shape: tuple[int, ...], training: bool) -> None:
    normalisation, x = module("transductive").train(training), inputs(shape)
    np.testing.assert_allclose(normalisation(x, TASKS, SUPPORT).detach(), by_hand(x, slice(None), normalisation), atol=1e-10)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("training", [True, False])
def test_support_normalises_each_task_by_its_support_set(shape: tuple[int, ...], training: bool) -> None:
    normalisation, x = module("support").train(training), inputs(shape)
    expected = by_hand(x, slice(0, SUPPORT), normalisation)
    np.testing.assert_allclose(normalisation(x, TASKS, SUPPORT).detach(), expected, atol=1e-10)


@pytest.mark.parametrize("shape", SHAPES)
def test_support_set_alone_is_normalised_as_it_is_beside_queries(shape: tuple[int, ...]) -> None:
    normalisation, x = module("support"), inputs(shape)
    alone = x.unflatten(0, (TASKS, IMAGES))[:, :SUPPORT].flatten(0, 1)
    together = normalisation(x, TASKS, SUPPORT).unflatten(0, (TASKS, IMAGES))[:, :SUPPORT].flatten(0, 1)
    torch.testing.assert_close(normalisation(alone, TASKS, SUPPORT), together, atol=1e-10, rtol=0)


@pytest.mark.parametrize("shape", SHAPES)
def test_support_later_trains_on_the_batch_and_evaluates_by_the_support_set(shape: tuple[int, ...]) -> None:
    x, trained, evaluated = inputs(shape), module("support_later").train(), module("support_later").eval()
    np.testing.assert_allclose(trained(x, TASKS, SUPPORT).detach(), by_hand(x, slice(None), trained), atol=1e-10)
    expected = by_hand(x, slice(0, SUPPORT), evaluated)
    np.testing.assert_allclose(evaluated(x, TASKS, SUPPORT).detach(), expected, atol=1e-10)


@pytest.mark.parametrize("shape", SHAPES)
def test_running_trains_on_the_batch_and_evaluates_with_the_averages(shape: tuple[int, ...]) -> None:
    x, trained = inputs(shape), module("running")
    np.testing.assert_allclose(trained.train()(x, TASKS, SUPPORT).detach(), by_hand(x, slice(None), trained), atol=1e-10)
    evaluated = module("running").eval()
    mean, variance = np.array([0.7, -1.1]), np.array([0.2, 3.0])
    weight, bias = evaluated.weight.detach().numpy(), evaluated.bias.detach().numpy()
    values = np.moveaxis(x.numpy(), 1, -1)
    expected = np.moveaxis((values - mean) / np.sqrt(variance + 1e-5) * weight + bias, -1, 1)
    np.testing.assert_allclose(evaluated(x, TASKS, SUPPORT).detach(), expected, atol=1e-10)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_task_is_normalised_the_same_alone_and_in_a_batch(protocol: Protocol, training: bool) -> None:
    x = inputs((3, 2))
    together = module(protocol).train(training)(x, TASKS, SUPPORT).chunk(TASKS)
    for task, alone in enumerate(x.chunk(TASKS)):
        torch.testing.assert_close(module(protocol).train(training)(alone, 1, SUPPORT), together[task], atol=1e-12, rtol=0)


@pytest.mark.parametrize(
    ("protocol", "training", "seen"),
    [
        ("transductive", True, True),
        ("transductive", False, True),
        ("running", False, False),
        ("support", True, False),
        ("support", False, False),
        ("support_later", True, True),
        ("support_later", False, False),
    ],
)
def test_queries_see_each_other_only_in_transductive(protocol: Protocol, training: bool, seen: bool) -> None:
    normalisation, x = module(protocol).train(training), inputs((3, 2))
    changed = x.clone()
    changed[IMAGES - 1] += 5  # the last query of the first task
    before, after = normalisation(x, TASKS, SUPPORT).detach(), normalisation(changed, TASKS, SUPPORT).detach()
    others = [image for image in range(len(x)) if image != IMAGES - 1]
    differ = (before - after).abs().flatten(1).amax(1) > 1e-12
    assert bool(differ[: IMAGES - 1].any()) is seen
    assert not differ[IMAGES:].any()  # never those of other tasks
    assert bool(differ[others].any()) is seen


@pytest.mark.parametrize("shape", SHAPES)
def test_running_averages_converge_to_the_statistics_of_the_tasks(shape: tuple[int, ...]) -> None:
    normalisation, x = module("running").train(), inputs(shape)
    for _ in range(400):
        normalisation(x, TASKS, SUPPORT)
    values = x.unflatten(0, (TASKS, IMAGES)).numpy()
    within = tuple(axis for axis in range(1, values.ndim) if axis != 2)
    np.testing.assert_allclose(normalisation.running_mean, values.mean(within).mean(0), rtol=1e-9)
    np.testing.assert_allclose(normalisation.running_var, values.var(within).mean(0), rtol=1e-9)


def test_one_step_moves_the_running_averages_by_a_tenth() -> None:
    normalisation, x = module("running").train(), inputs(())
    before = normalisation.running_mean.numpy().copy()
    normalisation(x, TASKS, SUPPORT)
    np.testing.assert_allclose(normalisation.running_mean, 0.9 * before + 0.1 * x.numpy().mean(0), rtol=1e-9)


def test_evaluation_leaves_the_running_averages_alone() -> None:
    normalisation = module("running").eval()
    before = {name: value.clone() for name, value in normalisation.state_dict().items()}
    normalisation(inputs(()), TASKS, SUPPORT)
    assert all(torch.equal(before[name], value) for name, value in normalisation.state_dict().items())


def test_only_running_has_averages_to_store() -> None:
    stored = {protocol: set(module(protocol).state_dict()) for protocol in PROTOCOLS}
    assert stored["transductive"] == stored["support"] == {"weight", "bias"}
    assert stored["running"] == {"weight", "bias", "running_mean", "running_var"}


@pytest.mark.parametrize("protocol", ["transductive", "support"])
@pytest.mark.parametrize("shape", [(), (2, 1)])
def test_second_order_gradients_are_those_of_finite_differences(protocol: Protocol, shape: tuple[int, ...]) -> None:
    normalisation = module(protocol)
    x = inputs(shape, images=4)[:8]

    def output(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        answer: Tensor = torch.func.functional_call(normalisation, {"weight": weight, "bias": bias}, (x, 2, 3))
        return answer

    given = [tensor.detach().clone().requires_grad_() for tensor in (x, normalisation.weight, normalisation.bias)]
    assert torch.autograd.gradcheck(output, given)
    assert torch.autograd.gradgradcheck(output, given)


STEPS = 3


def separate(protocol: Protocol, averages: bool, affine: bool) -> Normalisation:
    """With rows that differ from step to step."""
    made = module(protocol) if protocol != "none" else Normalisation(CHANNELS, protocol).double()
    made.separate_steps(STEPS, averages, affine)
    with torch.no_grad():
        for values in (*made.parameters(), *made.buffers()):
            values += torch.arange(values.numel(), dtype=torch.float64).view_as(values) / 10
    return made


def of_step(made: Normalisation, step: int) -> Normalisation:
    """One without steps, with the rows of a step."""
    own = Normalisation(CHANNELS, made.protocol).double()
    rows = {name: value if value.dim() == 1 else value[step] for name, value in made.state_dict().items()}
    own.load_state_dict(rows)
    return own.train(made.training)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("averages", "affine"), [(True, True), (True, False), (False, True)])
@pytest.mark.parametrize("protocol", [*PROTOCOLS, "none"])
def test_a_pass_uses_the_rows_of_its_step_and_later_ones_the_last(
    protocol: Protocol, averages: bool, affine: bool, training: bool
) -> None:
    averages = averages and protocol == "running"
    x = inputs((3, 2))
    for step in range(STEPS + 2):
        made = separate(protocol, averages, affine).train(training)
        expected = of_step(made, min(step, STEPS - 1))(x, TASKS, SUPPORT)
        made.step = step
        torch.testing.assert_close(made(x, TASKS, SUPPORT), expected, rtol=0, atol=0)


@pytest.mark.parametrize("protocol", [*PROTOCOLS, "none"])
def test_separate_steps_begin_alike(protocol: Protocol) -> None:
    made, x = Normalisation(CHANNELS, protocol).double().eval(), inputs(())
    expected = made(x, TASKS, SUPPORT)
    made.separate_steps(STEPS, protocol == "running", True)
    assert all(value.shape == (STEPS, CHANNELS) for value in made.state_dict().values())
    for step in range(STEPS):
        made.step = step
        torch.testing.assert_close(made(x, TASKS, SUPPORT), expected, rtol=0, atol=0)


def test_averages_and_affine_are_separated_one_without_the_other() -> None:
    for averages, affine in ((True, False), (False, True)):
        shapes = {name: value.dim() - 1 for name, value in separate("running", averages, affine).state_dict().items()}
        assert shapes == {"weight": affine, "bias": affine, "running_mean": averages, "running_var": averages}


def test_weights_and_biases_of_a_step_learn_from_its_passes_alone() -> None:
    made = separate("transductive", False, True)
    made.step = 1
    made(inputs(()), TASKS, SUPPORT).square().sum().backward()
    for parameter in made.parameters():
        assert parameter.grad is not None
        assert (parameter.grad != 0).any(dim=1).tolist() == [False, True, False]


@pytest.mark.parametrize("step", range(STEPS + 1))
def test_averages_of_a_step_learn_from_its_passes_alone(step: int) -> None:
    made, x = separate("running", True, False).train(), inputs((3, 2))
    single = of_step(made, min(step, STEPS - 1))
    before = {name: value.clone() for name, value in made.named_buffers()}
    single(x, TASKS, SUPPORT)
    made.step = step
    made(x, TASKS, SUPPORT)
    for name, value in made.named_buffers():
        for row in range(STEPS):
            learned = row == min(step, STEPS - 1)
            torch.testing.assert_close(value[row], getattr(single, name) if learned else before[name][row], rtol=0, atol=0)
        assert not torch.equal(value, before[name])


def test_statistics_that_are_noted_move_the_averages_of_their_step_when_they_are_learned() -> None:
    noting, learning = (separate("running", True, False).train() for _ in range(2))
    before = {name: value.clone() for name, value in noting.named_buffers()}
    x = inputs((3, 2))
    noting.step = learning.step = 2
    with recording_statistics([noting]):
        noting(x, TASKS, SUPPORT)
        (statistics,) = recorded_statistics([noting])
    assert statistics.shape == (TASKS, 2, CHANNELS)
    assert all(torch.equal(value, before[name]) for name, value in noting.named_buffers())
    learning(x, TASKS, SUPPORT)
    noting.step = 0
    noting.update_averages(statistics, 2)
    for name, value in learning.named_buffers():
        torch.testing.assert_close(dict(noting.named_buffers())[name], value, rtol=0, atol=0)
