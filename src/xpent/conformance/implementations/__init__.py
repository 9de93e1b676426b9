"""The implementations that come with the kit, each said by name and made when asked for."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from typing import NamedTuple

from xpent.conformance.implementation import Implementation
from xpent.conformance.libraries import Unsupported


class Known(NamedTuple):
    """An implementation that is made when it is asked for: where it stands and what it imports."""

    module: str
    maker: str
    packages: tuple[str, ...]

    def make(self) -> Implementation:
        """Import what it needs, or say what is missing."""
        for package in self.packages:
            if importlib.util.find_spec(package) is None:
                raise Unsupported(f"{package} is not installed")
        maker: Callable[[], Implementation] = getattr(importlib.import_module(self.module), self.maker)
        return maker()


def _known(file: str, maker: str, *packages: str) -> Known:
    return Known(f"xpent.conformance.implementations.{file}", maker, packages)


OURS = {
    "xpent numpy": _known("ours", "on_numpy", "numpy"),
    "xpent torch": _known("ours", "on_torch", "torch"),
    "xpent torch autograd": _known("ours", "in_torch", "torch"),
    "xpent jax": _known("ours", "on_jax", "jax"),
    "xpent jax autodiff": _known("ours", "in_jax", "jax"),
    "xpent torch cuda": _known("ours", "on_cuda", "torch"),
}
BUILTINS = {
    "torch": _known("pytorch", "eager", "torch"),
    "torch compiled": _known("pytorch", "compiled", "torch"),
    "torch linear": _known("pytorch", "linear", "torch"),
    "torch linear chunked": _known("pytorch", "chunked", "torch"),
    "optax integer": _known("jax_based", "integer", "jax", "optax"),
    "optax soft": _known("jax_based", "soft", "jax", "optax"),
    "optax safe": _known("jax_based", "safe", "jax", "optax"),
    "keras numpy": _known("keras", "on_numpy", "keras"),
    "keras torch": _known("keras", "on_torch", "keras", "torch"),
    "keras jax": _known("keras", "on_jax", "keras", "jax"),
    "scipy": _known("numpy_based", "scipy_special", "scipy"),
    "scikit-learn": _known("numpy_based", "scikit_learn", "sklearn"),
    "scikit-learn array API": _known("numpy_based", "scikit_learn_array_api", "sklearn"),
    "liger": _known("kernels", "liger", "torch", "liger_kernel"),
    "cut-cross-entropy": _known("kernels", "cut_cross_entropy", "torch", "cut_cross_entropy"),
}
KNOWN = {**OURS, **BUILTINS}


def implementation(name: str) -> Implementation:
    """An implementation that comes with the kit, by its name.

    Parameters
    ----------
    name : str
        A key of `KNOWN`: "xpent numpy", "torch", "optax integer", ...

    Returns
    -------
    Implementation

    Raises
    ------
    ValueError
        If there is none of this name.
    Unsupported
        If what it needs is not installed, or there is no device for it.

    Examples
    --------
    >>> from xpent import conformance
    >>> conformance.check(conformance.implementation("xpent numpy"), categories=["confident"], dtypes=["float32"]).holds
    True
    """
    if name not in KNOWN:
        raise ValueError(f"there is no implementation {name!r}; there are {', '.join(KNOWN)}")
    return KNOWN[name].make()
