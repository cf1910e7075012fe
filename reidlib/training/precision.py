"""The numbers a network computes with: float32, or bf16 autocast where the device multiplies bf16 numbers.

bf16 keeps 8 of float32's 24 binary digits. A device that has it rounds the factors of a product to bf16, adds the
products up in float32 and rounds the sum once. A device without it can do the same to the numbers, at the speed of
float32: the product of two bf16 numbers is exact there. So what bf16 costs in accuracy can be measured anywhere.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only


def in_bf16(recipe: dict[str, Any], device: torch.device) -> bool:
    """Whether autocast to bf16 is on: where the recipe asks for it, and the device multiplies bf16 numbers.

    A processor without such instructions would imitate them, many times slower than float32, which is taken then. Who
    wants bf16 numbers nevertheless asks for "bf16 imitated".
    """
    return recipe["precision"] == "bf16 imitated" or (recipe["precision"] == "bf16" and multiplies_bf16(device))


def multiplies_bf16(device: torch.device) -> bool:
    """Whether this device has instructions for bf16; a processor of which nothing is known is given the doubt."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    known = getattr(torch.cpu, "get_capabilities", dict)()
    return any(known.get(name, True) for name in ("avx512_bf16", "amx_bf16"))


def products(recipe: dict[str, Any]) -> AbstractContextManager:
    """Inside it, products of bf16 numbers are those of the device, or imitated; of the backward pass, too."""
    return ImitatedProducts() if recipe["precision"] == "bf16 imitated" else nullcontext()


class ImitatedProducts(TorchDispatchMode):
    """Computes every product of bf16 tensors in float32 and rounds the result to bf16."""

    PRODUCTS = frozenset(
        getattr(torch.ops.aten, name)
        for name in ("convolution", "convolution_backward", "mm", "addmm", "bmm", "baddbmm", "mv", "dot")
    )
    """All that torch's convolutions, linear layers and matrix products come down to, forwards and backwards."""

    def __torch_dispatch__(self, operation, types, arguments=(), options=None):
        given = (arguments, options or {})
        if operation.overloadpacket in self.PRODUCTS and arguments[0].dtype == torch.bfloat16:
            wide, options = tree_map_only(Tensor, lambda tensor: tensor.float(), given)
            return tree_map_only(Tensor, lambda tensor: tensor.bfloat16(), operation(*wide, **options))
        with self:  # in inference mode a layer arrives whole: its parts come here again
            parts = operation.decompose(*arguments, **given[1])
        return operation(*arguments, **given[1]) if parts is NotImplemented else parts
