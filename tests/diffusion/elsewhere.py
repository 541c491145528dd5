"""A device that is not the processor, played by the processor: tensors there and here do not mix, as on a GPU.

What is done there is done by the processor, so numbers can be compared. torch calls the device `meta`, because that is
one which every build knows; here it holds numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Self

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

DEVICE, HERE = torch.device("meta"), torch.device("cpu")
_MOVES = ("to", "_to_copy", "copy_")


class There(torch.Tensor):
    """A tensor on the other device."""

    numbers: torch.Tensor

    @staticmethod
    def __new__(cls, numbers: torch.Tensor) -> Self:
        made: Self = torch.Tensor._make_wrapper_subclass(
            cls, numbers.size(), strides=numbers.stride(), storage_offset=numbers.storage_offset(),
            dtype=numbers.dtype, device=DEVICE, requires_grad=numbers.requires_grad,
        )  # fmt: skip
        made.numbers = numbers
        return made

    def __repr__(self) -> str:
        return f"There({self.numbers!r})"

    @classmethod
    def __torch_dispatch__(cls, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _done(operation, args, kwargs or {})


class _Factories(TorchDispatchMode):
    """What makes or moves tensors, which no tensor of ours need take part in."""

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _done(operation, args, kwargs or {})


def _done(operation: Any, args: Any, kwargs: Any) -> Any:
    name = operation.__name__.split(".")[0]
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
    theirs = [tensor for tensor in tensors if isinstance(tensor, There)]
    strangers = [tensor for tensor in tensors if not isinstance(tensor, There) and tensor.dim()]
    if theirs and strangers and name not in _MOVES:
        raise RuntimeError(f"{operation}: expected all tensors to be on the same device, but found {DEVICE} and cpu")
    named = [argument.name for argument in operation._schema.arguments]
    asked = {**dict(zip(named, args, strict=False)), **kwargs}.get("device")
    args = [HERE if name_ == "device" else value for name_, value in zip(named, args, strict=False)]
    kwargs = {key: HERE if key == "device" and value is not None else value for key, value in kwargs.items()}
    there = bool(theirs) if asked is None else torch.device(asked) == DEVICE
    if name == "copy_":
        there = isinstance(args[0], There)
    answer = operation(*tree_map(_numbers, args), **tree_map(_numbers, kwargs))
    if not there or name == "_local_scalar_dense":
        return answer
    same = {id(tensor.numbers): tensor for tensor in theirs}  # an operation in place gives back what it was given

    def placed(leaf: Any) -> Any:
        if not isinstance(leaf, torch.Tensor):
            return leaf
        return same[id(leaf)] if id(leaf) in same else There(leaf)

    return tree_map(placed, answer)


def _numbers(leaf: Any) -> Any:
    return leaf.numbers if isinstance(leaf, There) else leaf


@contextmanager
def another_device() -> Iterator[torch.device]:
    """Within: tensors can be on that device, in this thread."""
    before = torch.__future__.get_overwrite_module_params_on_conversion()
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    try:
        with _Factories():
            yield DEVICE
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(before)


def picking(device: torch.device) -> Callable[[str], torch.device]:
    """As `pick_device` on a machine that has this one, called cuda."""
    return lambda name="auto": device if name == "cuda" else HERE
