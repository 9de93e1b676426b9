"""PyTorch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from xpent.conformance.dtypes import Numbers
from xpent.conformance.libraries.base import Argument, Arrays, Function, Library, Options, Unsupported, of_one


class Torch(Library):
    """PyTorch, differentiated by autograd."""

    imports = "import numpy as np\nimport torch"
    ones, like_value = "torch.ones_like(value)", ".to(value.dtype)"
    lines: Mapping[str, tuple[str, ...]] = {
        "value": ("print({call})",),
        "vjp": (
            "{x}.requires_grad_()",
            "value = {call}",
            "print(torch.autograd.grad(value, {x}, {g})[0])",
        ),
        "jvp": ("print(torch.func.jvp(lambda {x}: {call}, ({x},), ({v},))[1])",),
        "hvp": (
            "{x}.requires_grad_()",
            "(gradient,) = torch.autograd.grad({call}.sum(), {x}, create_graph=True)",
            "print(torch.autograd.grad(gradient, {x}, {v})[0])",
        ),
    }

    def literal(self, values: str, dtype: str) -> str:
        """Source code of a tensor, from the source code of its values."""
        device = "" if self.device == "cpu" else f", device={self.device!r}"
        return f"torch.tensor({values}, dtype=torch.{dtype}{device})"

    def asarray(self, values: Numbers, dtype: str) -> Any:
        """A tensor on the device."""
        return self.xp.tensor(values, dtype=getattr(self.xp, dtype), device=self.device)

    def to_numpy(self, array: Any) -> Numbers:
        """Copy a tensor to NumPy; floating-point numbers become float64."""
        array = array.detach().cpu()
        if array.is_complex():
            raise TypeError(f"the result must be real, got dtype {array.dtype}")
        return np.array((array.double() if array.is_floating_point() else array).numpy())

    def laid_out(self, values: Numbers, dtype: str, layout: str) -> Any:
        """A tensor with a memory layout other than "C"."""
        if layout == "reversed":
            raise Unsupported("torch does not support negative strides")
        if layout == "broadcast":
            return self.asarray(values[:1], dtype).expand(values.shape)
        if layout == "Fortran":
            return self.asarray(np.array(values.T), dtype).permute(*reversed(range(values.ndim)))
        every_other = (slice(None, None, 2),) * values.ndim
        array = self.asarray(np.zeros([2 * size for size in values.shape]), dtype)[every_other]
        return array.copy_(self.asarray(values, dtype))

    def vjp(
        self, function: Function, arrays: Arrays, options: Options, argument: Argument, cotangent: Any
    ) -> tuple[Any, Any]:
        """The value, and the gradient multiplied by a cotangent, by ``torch.autograd.grad``."""
        of_x, x = of_one(function, arrays, options, argument)
        x = x.detach().requires_grad_()
        value = of_x(x)
        g = self.xp.ones_like(value) if cotangent is None else cotangent.to(value.dtype)
        return value, self.xp.autograd.grad(value, x, g)[0]

    def jvp(self, function: Function, arrays: Arrays, options: Options, tangent: Any) -> Any:
        """The derivative along a tangent, by ``torch.func.jvp``."""
        of_x, x = of_one(function, arrays, options, 0)
        return self.xp.func.jvp(of_x, (x,), (tangent,))[1]

    def hvp(self, function: Function, arrays: Arrays, options: Options, tangent: Any) -> Any:
        """The derivative of the gradient along a tangent, by differentiating the backward pass."""
        of_x, x = of_one(function, arrays, options, 0)
        x = x.detach().requires_grad_()
        (gradient,) = self.xp.autograd.grad(of_x(x).sum(), x, create_graph=True)
        return self.xp.autograd.grad(gradient, x, tangent)[0]
