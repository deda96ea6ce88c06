"""The convolutions of several tasks and both of their derivatives against those of PyTorch in double precision."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from metashot.kernels.convolution import block, convolution
from metashot.kernels.images import are_available

pytestmark = pytest.mark.skipif(not are_available(), reason="there is no C compiler")

# Groups, images of each, inputs, outputs, height, width, stride. Channels fill vectors of every length, and do not.
SHAPES = [
    (1, 5, 1, 64, 28, 28, 1),
    (2, 3, 64, 64, 14, 14, 1),
    (2, 3, 16, 32, 6, 5, 1),
    (3, 2, 3, 32, 13, 9, 2),
    (2, 4, 32, 33, 7, 8, 2),
    (4, 1, 5, 70, 3, 3, 1),
    (2, 2, 2, 2, 1, 1, 1),
    (2, 2, 3, 5, 1, 1, 2),
    (2, 2, 3, 5, 1, 4, 2),
    (3, 5, 8, 7, 2, 2, 2),
    (1, 2, 33, 17, 6, 5, 2),
    (1, 1, 96, 192, 5, 5, 1),
]

Tensors = tuple[Tensor, ...]
Function = Callable[[Tensor, Tensor, int], Tensor]


def plain(x: Tensor, weight: Tensor, stride: int) -> Tensor:
    if weight.dim() == 4:
        return F.conv2d(x, weight, None, stride, 1)
    return torch.cat([F.conv2d(task, own, None, stride, 1) for task, own in zip(x.chunk(len(weight)), weight, strict=True)])


def derivatives(
    function: Function, x: Tensor, weight: Tensor, upstream: Tensor, cotangents: Tensors, stride: int
) -> Tensors:
    """The outputs, the gradients, and the gradients of a function of the gradients."""
    x, weight, upstream = (value.detach().clone().requires_grad_() for value in (x, weight, upstream))
    outputs = function(x, weight, stride)
    first = torch.autograd.grad(outputs, (x, weight), upstream, create_graph=True)
    total = sum(
        ((gradient * cotangent).sum() for gradient, cotangent in zip(first, cotangents, strict=True)), start=x.new_zeros(())
    )
    second = torch.autograd.grad(total, (x, weight, upstream))
    return tuple(value.detach() for value in (outputs, *first, *second))


def given(shape: tuple[int, ...], shared: bool, seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensors, int]:
    groups, images, inputs, outputs, height, width, stride = shape
    random = torch.Generator().manual_seed(seed)
    sizes = (groups * images, inputs, height, width), (outputs, inputs, 3, 3) if shared else (groups, outputs, inputs, 3, 3)
    x, weight, *cotangents = (torch.randn(size, generator=random) for size in sizes * 2)
    upstream = torch.randn(len(x), outputs, (height - 1) // stride + 1, (width - 1) // stride + 1, generator=random)
    return x, weight, upstream, tuple(cotangents), stride


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_values_and_both_derivatives_are_exact(shape: tuple[int, ...], shared: bool) -> None:
    x, weight, upstream, cotangents, stride = given(shape, shared)
    ours = derivatives(convolution, x, weight, upstream, cotangents, stride)
    double = (x.double(), weight.double(), upstream.double(), tuple(value.double() for value in cotangents))
    exact = derivatives(plain, *double, stride)
    for mine, theirs in zip(ours, exact, strict=True):
        assert mine.dtype is torch.float32
        assert (mine.double() - theirs).norm() <= 2e-6 * theirs.norm()
        torch.testing.assert_close(mine.double(), theirs, rtol=1e-4, atol=1e-5 * float(theirs.abs().max()))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_neither_threads_nor_the_layout_of_memory_nor_other_tasks_change_a_bit(shape: tuple[int, ...]) -> None:
    x, weight, upstream, cotangents, stride = given(shape, shared=False)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = derivatives(convolution, x, weight, upstream, cotangents, stride)
        torch.set_num_threads(3)
        several = derivatives(convolution, x, weight, upstream, cotangents, stride)
    finally:
        torch.set_num_threads(threads)
    last = x.contiguous(memory_format=torch.channels_last), weight.transpose(1, 2).contiguous().transpose(1, 2)
    other = derivatives(convolution, *last, upstream.contiguous(memory_format=torch.channels_last), cotangents, stride)
    first = [value.chunk(len(weight))[0] for value in (x, weight, upstream, *cotangents)]
    alone = derivatives(convolution, *first[:3], tuple(first[3:]), stride)
    for mine, theirs, laid_out, of_first in zip(one, several, other, alone, strict=True):
        assert torch.equal(mine, theirs)
        assert torch.equal(mine, laid_out)
        assert torch.equal(mine.chunk(len(weight))[0], of_first)


def test_only_what_is_wanted_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    from metashot.kernels import convolution as module

    called: list[str] = []
    monkeypatch.setattr(module, "call", lambda _, function, *__: called.append(function))
    images, weight = torch.randn(2, 3, 4, 4), torch.randn(5, 3, 3, 3, requires_grad=True)
    (gradient,) = torch.autograd.grad(convolution(images, weight, 1).sum(), weight, create_graph=True)
    assert called == ["convolution", "to_weights"]
    gradient.sum().backward()  # a gradient of weights is linear in what came from above, which nothing else needs here
    assert called == ["convolution", "to_weights"]


def test_there_is_no_third_derivative() -> None:
    x, weight = torch.randn(1, 2, 3, 3, requires_grad=True), torch.randn(2, 2, 3, 3, requires_grad=True)
    (first,) = torch.autograd.grad(convolution(x, weight, 1).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="no third derivative"):
        torch.autograd.grad(first.square().sum(), x, create_graph=True)


def test_what_is_no_number_spreads_as_far_as_it_is_read() -> None:
    x, weight = torch.zeros(1, 1, 7, 7), torch.ones(3, 1, 3, 3)
    x[0, 0, 2, 3] = torch.nan
    expected = torch.zeros(7, 7, dtype=torch.bool)
    expected[1:4, 2:5] = True
    assert torch.equal(convolution(x, weight, 1).isnan(), expected.expand(1, 3, 7, 7))


@pytest.mark.parametrize("own", ["nothing", "weights", "scales", "both"])
@pytest.mark.parametrize("pool", [1, 2])
@pytest.mark.parametrize("shape", [shape for shape in SHAPES if min(shape[4:6]) > 3], ids=str)
def test_a_block_of_a_trained_network(shape: tuple[int, ...], pool: int, own: str) -> None:
    x, weight, _, _, stride = given(shape, shared=own in ("nothing", "scales"))
    groups, outputs = shape[0], weight.shape[-4]
    scale, shift = torch.randn(2, *((groups, outputs) if own in ("scales", "both") else (outputs,)))
    of_images = (values.expand(groups, -1).repeat_interleave(shape[1], 0)[..., None, None] for values in (scale, shift))
    factors, terms = (values.double() for values in of_images)
    expected = F.max_pool2d(F.relu(plain(x.double(), weight.double(), stride) * factors + terms), pool)
    found = block(x, weight, stride, scale, shift, pool)
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-5 * float(expected.max()))
    x[0, 0, 1, 1] = torch.nan
    expected = F.max_pool2d(F.relu(plain(x, weight, stride) * factors + terms), pool)
    assert torch.equal(block(x, weight, stride, scale, shift, pool).isnan(), expected.isnan())


@pytest.mark.parametrize("inputs", [1, 5])
def test_gradients_of_weights_have_their_strides(inputs: int) -> None:
    weight = torch.randn(4, inputs, 3, 3).contiguous(memory_format=torch.channels_last)
    weight = weight.as_strided(weight.shape, (9 * inputs, 1, 3 * inputs, inputs)).requires_grad_()
    x = torch.randn(2, inputs, 6, 6)
    (found,) = torch.autograd.grad(convolution(x, weight, 1).square().sum(), weight)
    (expected,) = torch.autograd.grad(plain(x, weight, 1).square().sum(), weight)
    assert found.stride() == weight.stride()
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
