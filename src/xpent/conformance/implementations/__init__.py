"""The implementations that come with xpent, each known by name and made when it is needed."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from typing import NamedTuple

from xpent.conformance.implementation import Implementation
from xpent.conformance.libraries import Unsupported


class Known(NamedTuple):
    """An implementation that is made when it is needed: the function that makes it and what that imports."""

    name: str
    module: str
    maker: str
    packages: tuple[str, ...]
    compiles: str = ""  # a name that implementations have in common which compile the same functions

    def make(self) -> Implementation:
        """Import what it needs, or say what is missing."""
        for package in self.packages:
            if importlib.util.find_spec(package) is None:
                raise Unsupported(f"{package} is not installed")
        maker: Callable[[], Implementation] = getattr(importlib.import_module(self.module), self.maker)
        return maker()


def _known(*rows: tuple[str, ...]) -> dict[str, Known]:
    """From the name, the module here, the function in it and the packages it needs."""
    return {
        name: Known(name, f"xpent.conformance.implementations.{file}", maker, tuple(packages), _COMPILES.get(name, ""))
        for name, file, maker, *packages in rows
    }


_COMPILES = {"xpent jax": "jax", "xpent jax autodiff": "jax"}

# The later ones take longer, and are started first.
OURS = _known(
    ("xpent numpy", "ours", "on_numpy", "numpy"),
    ("xpent torch", "ours", "on_torch", "torch"),
    ("xpent torch autograd", "ours", "in_torch", "torch"),
    ("xpent torch cuda", "ours", "on_cuda", "torch"),
    ("xpent jax", "ours", "on_jax", "jax"),
    ("xpent jax autodiff", "ours", "in_jax", "jax"),
)
BUILTINS = _known(
    ("scipy", "others", "scipy_special", "scipy"),
    ("scikit-learn", "others", "scikit_learn", "sklearn"),
    ("scikit-learn array API", "others", "scikit_learn_array_api", "sklearn"),
    ("torch", "torch", "eager", "torch"),
    ("torch linear", "torch", "linear", "torch"),
    ("torch linear chunked", "torch", "chunked", "torch"),
    ("torch compiled", "torch", "compiled", "torch"),
    ("liger", "torch", "liger", "torch", "liger_kernel"),
    ("cut-cross-entropy", "torch", "cut_cross_entropy", "torch", "cut_cross_entropy"),
    ("keras numpy", "others", "keras_on_numpy", "keras"),
    ("keras torch", "others", "keras_on_torch", "keras", "torch"),
    ("keras jax", "others", "keras_on_jax", "keras", "jax"),
    ("optax integer", "others", "optax_integer", "jax", "optax"),
    ("optax soft", "others", "optax_soft", "jax", "optax"),
    ("optax safe", "others", "optax_safe", "jax", "optax"),
)
KNOWN = {**OURS, **BUILTINS}


def implementation(name: str) -> Implementation:
    """An implementation that comes with xpent, by its name.

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
