"""Precision: float32, or bf16 autocast where the device multiplies bf16 numbers: it rounds factors to bf16, adds the
products up in float32 and rounds the sum once. Any other device can imitate that at the speed of float32."""

import os
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from reidlib.spec import Recipe


def in_bf16(recipe: Recipe, device: torch.device) -> bool:
    """Whether autocast to bf16 is on: where the recipe asks for it, and the device multiplies bf16 numbers. A processor
    without such instructions would emulate them, many times slower than float32."""
    return recipe.precision == "bf16 imitated" or (recipe.precision == "bf16" and multiplies_bf16(device))


def multiplies_bf16(device: torch.device) -> bool:
    """Whether this device has instructions for bf16; a processor of which nothing is known is assumed to have them."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    known = getattr(torch.cpu, "get_capabilities", dict)()
    return any(known.get(name, True) for name in ("avx512_bf16", "amx_bf16"))


def products(recipe: Recipe) -> AbstractContextManager:
    """Inside it, products of bf16 numbers are those of the device, or imitated, in the backward pass too."""
    return ImitatedProducts() if recipe.precision == "bf16 imitated" else nullcontext()


class ImitatedProducts(TorchDispatchMode):
    """Computes every product of bf16 tensors in float32 and rounds the result to bf16."""

    PRODUCTS = frozenset(
        getattr(torch.ops.aten, name)
        for name in ("convolution", "convolution_backward", "mm", "addmm", "bmm", "baddbmm", "mv", "dot")
    )
    """What torch's convolutions, linear layers and matrix products consist of, forwards and backwards."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        given = (args, kwargs or {})
        if func.overloadpacket in self.PRODUCTS and next(iter(args)).dtype == torch.bfloat16:
            wide, options = tree_map_only(Tensor, lambda tensor: tensor.float(), given)
            return tree_map_only(Tensor, lambda tensor: tensor.bfloat16(), func(*wide, **options))
        with self:  # in inference mode a layer arrives whole: its parts come here again
            parts = func.decompose(*args, **given[1])
        return func(*args, **given[1]) if parts is NotImplemented else parts


def deterministic() -> None:
    """From now on equal bits in every run of one machine, on a GPU too (a processor needs no such switch); an operation
    that cannot do it is an error."""
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"  # read when CUDA is first used
    torch.backends.cudnn.benchmark = False
    torch.use_deterministic_algorithms(True)
