"""The fused operation and both of its derivatives against the operations of PyTorch in double precision."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from metashot.kernels import images
from metashot.kernels.images import are_available, are_usable, dense
from metashot.kernels.normalised_pool import normalised_pool

pytestmark = pytest.mark.skipif(not are_available(), reason="there is no C compiler")

EPSILON = 1e-5
# Groups, images, of which give the statistics, channels, height, width, pool.
SHAPES = [
    (1, 5, 5, 8, 6, 6, 2),
    (2, 4, 2, 8, 7, 5, 2),
    (3, 4, 4, 5, 3, 3, 1),
    (2, 6, 3, 16, 8, 8, 1),
    (2, 3, 1, 3, 9, 9, 2),
    (1, 2, 2, 1, 2, 2, 2),
    (1, 3, 3, 40, 28, 28, 2),
    (1, 4, 4, 3, 4, 4, 1),
]


def plain(x: Tensor, weight: Tensor, bias: Tensor, epsilon: float, groups: int, support: int, pool: int) -> Tensor:
    outputs = []
    for group in x.chunk(groups):
        variance, mean = torch.var_mean(group[:support], [0, 2, 3], correction=0)
        scale = weight * torch.rsqrt(variance + epsilon)
        outputs.append(F.relu(group * scale.view(1, -1, 1, 1) + (bias - mean * scale).view(1, -1, 1, 1)))
    return F.max_pool2d(torch.cat(outputs), pool)


def fused(*arguments: object) -> Tensor:
    return normalised_pool(*arguments).values  # type: ignore[arg-type]


Tensors = tuple[Tensor, ...]


def double(tensors: Tensors) -> Tensors:
    return tuple(value.double() for value in tensors)


def derivatives(
    function: Callable[..., Tensor], inputs: Tensors, upstream: Tensor, cotangents: Tensors, *how: object
) -> list[Tensor]:
    """The outputs, the gradients, and the gradients of a function of the gradients."""
    inputs = tuple(value.detach().clone().requires_grad_() for value in inputs)
    upstream = upstream.detach().clone().requires_grad_()
    outputs = function(*inputs, EPSILON, *how)
    first = torch.autograd.grad(outputs, inputs, upstream, create_graph=True)
    total = sum((gradient * cotangent).sum() for gradient, cotangent in zip(first, cotangents, strict=True))
    second = torch.autograd.grad(total, (*inputs[:2], upstream))  # type: ignore[arg-type]
    return [value.detach() for value in (outputs, *first, *second)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("seed", range(3))
def test_values_and_both_derivatives_are_exact(shape: tuple[int, ...], seed: int) -> None:
    groups, images, support, channels, height, width, pool = shape
    random = torch.Generator().manual_seed(seed)
    inputs = (
        torch.randn(groups * images, channels, height, width, generator=random) + 0.3,
        torch.randn(channels, generator=random),  # of both signs: the smallest value of a window may be the best
        0.3 * torch.randn(channels, generator=random),
    )
    upstream = torch.randn(groups * images, channels, height // pool, width // pool, generator=random)
    cotangents = tuple(torch.randn(value.shape, generator=random) for value in inputs)
    ours = derivatives(fused, inputs, upstream, cotangents, groups, support, pool)
    exact = derivatives(plain, double(inputs), upstream.double(), double(cotangents), groups, support, pool)
    for mine, theirs in zip(ours, exact, strict=True):
        assert mine.dtype is torch.float32
        torch.testing.assert_close(mine.double(), theirs, rtol=1e-4, atol=2e-6 * float(theirs.abs().max()))


def test_the_statistics_are_those_of_each_group() -> None:
    x = torch.randn(6, 4, 5, 5) * 3 + 7
    means, variances = normalised_pool(x, torch.ones(4), torch.zeros(4), EPSILON, 2, 3, 2)[1:]
    expected = [torch.var_mean(group.double(), [0, 2, 3], correction=0) for group in x.chunk(2)]
    torch.testing.assert_close(variances, torch.stack([variance for variance, _ in expected]).float())
    torch.testing.assert_close(means, torch.stack([mean for _, mean in expected]).float())
    assert not means.requires_grad


@pytest.mark.parametrize("weight", [1.0, -1.0, 0.0])
def test_of_equal_values_the_first_of_a_window_gets_the_gradient(weight: float) -> None:
    x = torch.tensor([[1.0, 1.0, 2.0, 3.0], [1.0, 1.0, 3.0, 2.0]]).view(1, 1, 2, 4)
    given = (x, torch.full((1,), weight), torch.ones(1))
    upstream, cotangents = torch.ones(1, 1, 1, 2), (torch.randn(1, 1, 2, 4), torch.ones(1), torch.ones(1))
    ours = derivatives(fused, given, upstream, cotangents, 1, 1, 2)
    exact = derivatives(plain, double(given), upstream.double(), double(cotangents), 1, 1, 2)
    for mine, theirs in zip(ours, exact, strict=True):
        torch.testing.assert_close(mine.double(), theirs, rtol=1e-5, atol=1e-6)


def test_what_is_no_number_stays_none() -> None:
    x = torch.randn(2, 3, 4, 4)
    x[0, 1, 2, 2] = torch.nan
    values = fused(x, torch.ones(3), torch.zeros(3), EPSILON, 1, 2, 2)
    assert values[:, 1].isnan().all()
    assert values[:, [0, 2]].isfinite().all()


@pytest.mark.parametrize("place", range(4))
def test_a_query_that_is_no_number_keeps_its_place(place: int) -> None:
    x = torch.randn(2, 3, 4, 4)
    x[1, 1, 2 + place // 2, place % 2] = torch.nan
    values = fused(x, torch.ones(3), torch.zeros(3), EPSILON, 1, 1, 2)
    assert values.isnan().nonzero().tolist() == [[1, 1, 1, 0]]


def test_groups_can_have_weights_of_their_own() -> None:
    x, weight, bias = torch.randn(6, 4, 5, 5), torch.randn(3, 4), torch.randn(3, 4)
    upstream, cotangents = torch.randn(6, 4, 2, 2), (torch.randn_like(x), torch.randn(3, 4), torch.randn(3, 4))
    together = derivatives(fused, (x, weight, bias), upstream, cotangents, 3, 1, 2)
    for number in range(3):
        group, own = slice(2 * number, 2 * number + 2), slice(number, number + 1)
        alone = derivatives(fused, (x[group], weight[number], bias[number]), upstream[group],
                            (cotangents[0][group], cotangents[1][number], cotangents[2][number]), 1, 1, 2)  # fmt: skip
        for mine, theirs in zip(together, alone, strict=True):
            assert torch.equal((mine[own][0] if mine.shape == weight.shape else mine[group]), theirs)


def test_neither_threads_nor_the_layout_of_memory_change_a_bit() -> None:
    x, weight, bias = torch.randn(12, 9, 10, 10), torch.randn(9), torch.randn(9)
    upstream, cotangents = torch.randn(12, 9, 5, 5), (torch.randn_like(x), torch.randn(9), torch.randn(9))
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = derivatives(fused, (x, weight, bias), upstream, cotangents, 3, 2, 2)
        torch.set_num_threads(3)
        several = derivatives(fused, (x, weight, bias), upstream, cotangents, 3, 2, 2)
    finally:
        torch.set_num_threads(threads)
    other = derivatives(fused, (dense(x), weight, bias), dense(upstream), cotangents, 3, 2, 2)
    for a, b, c in zip(one, several, other, strict=True):
        assert torch.equal(a, b)
        assert torch.equal(a, c)


def test_it_is_used_only_where_it_can_be(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.rand(2, 3, 4, 4)
    assert are_usable(x)
    assert not are_usable(x.double())
    assert not are_usable(x[:0])
    assert not are_usable(x[0])
    assert not are_usable(torch.rand(2, 3, 4, 4, device="meta"))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not are_usable(x)
    seen: list[bool] = []
    torch.func.vmap(lambda values: (seen.append(are_usable(values)), values)[1])(x.unsqueeze(0))
    torch.func.grad(lambda values: (seen.append(are_usable(values)), values.sum())[1])(x)
    torch.jit.trace(lambda values: (seen.append(are_usable(values)), values + 1)[1], x, check_trace=False)
    assert seen
    assert not any(seen)
    monkeypatch.setattr(images, "library", lambda *_: None)
    assert not are_usable(x)


def test_too_little_memory_is_an_error_of_python(monkeypatch: pytest.MonkeyPatch) -> None:
    class Failing:
        def metashot_forward(self, *arguments: object) -> int:
            return 1

    monkeypatch.setattr(images, "library", lambda *_: Failing())
    with pytest.raises(MemoryError):
        fused(torch.rand(2, 3, 4, 4), torch.ones(3), torch.zeros(3), EPSILON, 1, 2, 2)


def test_there_is_no_third_derivative() -> None:
    x = torch.randn(2, 2, 4, 4, requires_grad=True)
    values = fused(x, torch.ones(2), torch.zeros(2), EPSILON, 1, 2, 2)
    (first,) = torch.autograd.grad(values.square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="no third derivative"):
        torch.autograd.grad(first.square().sum(), x, create_graph=True)
