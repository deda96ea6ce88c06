"""What the kernels take: images in single precision on a CPU, whose channels come last in memory."""

import ctypes
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from metashot.kernels.compiling import library

FUNCTIONS = {
    "normalised_pool": ("metashot_forward", "metashot_backward", "metashot_double_backward"),
    "convolution": ("metashot_convolution", "metashot_block", "metashot_to_inputs", "metashot_to_weights"),
    "lstm_cell": ("metashot_gates", "metashot_of_gates"),
}  # of each library


def are_available() -> bool:
    """Whether the kernels are there on this machine."""
    return all(library(name, FUNCTIONS[name]) is not None for name in ("normalised_pool", "convolution"))


def are_usable(x: Tensor, parameters: Iterable[Tensor] = ()) -> bool:
    """Whether the kernels can be used for these activations and parameters, on this machine and where they are computed."""
    if torch.compiler.is_compiling() or torch._C._is_tracing() or torch._C._functorch.peek_interpreter_stack() is not None:
        return False
    if torch.is_autocast_enabled("cpu") or forward_ad._current_level >= 0:
        return False
    if not all(one.dtype is torch.float32 and one.device.type == "cpu" for one in (x, *parameters)):
        return False
    return type(x) is Tensor and x.dim() == 4 and x.numel() > 0 and are_available()


def call(name: str, function: str, shape: ctypes.Structure, *tensors: Tensor | None) -> None:
    """Call a function of a library with the shape and the addresses of dense tensors.

    Raises:
        MemoryError: There is not enough memory.
    """
    found = library(name, FUNCTIONS[name])
    assert found is not None
    addresses = (ctypes.c_void_p(None if tensor is None else tensor.data_ptr()) for tensor in tensors)
    if getattr(found, f"metashot_{function}")(ctypes.byref(shape), *addresses):
        raise MemoryError


def threads_for(operations: int) -> int:
    """The number of threads for so many multiplications: to wake one takes about as long as a hundred thousand of them."""
    return min(torch.get_num_threads(), 1 + operations // 200_000)


def lengths(*names: str) -> list[tuple[str, Any]]:
    """Fields of a C structure that are integers."""
    return [(name, ctypes.c_long) for name in names]


def dense(x: Tensor) -> Tensor:
    """The images with channels last in memory."""
    return x.contiguous(memory_format=torch.channels_last)


def empty(like: Tensor, images: int, channels: int, height: int, width: int) -> Tensor:
    """Images without values, whose channels come last in memory."""
    return like.new_empty(images, height, width, channels).permute(0, 3, 1, 2)


def refuse_third_derivative() -> None:
    """To be called by a second derivative, which has no derivative of its own.

    `once_differentiable` would not do: with `torch.autograd.grad`, the third derivative would lack a term without any error.

    Raises:
        RuntimeError: The second derivative is computed in a way that allows a third one.
    """
    if torch.is_grad_enabled():
        raise RuntimeError("fused blocks have no third derivative: use backbone.fused=false")
