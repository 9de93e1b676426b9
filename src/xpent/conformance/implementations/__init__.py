"""The implementations that the suite knows by name. They are imported when needed."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from typing import NamedTuple

from xpent.conformance.implementation import Implementation
from xpent.conformance.libraries import Unsupported


class Known(NamedTuple):
    """The module and function that create an implementation, and the packages that these import."""

    name: str
    module: str
    maker: str
    packages: tuple[str, ...]
    compiles: str = ""  # implementations with the same name compile the same functions

    def make(self) -> Implementation:
        """Create the implementation; raise `Unsupported` if a package is not installed."""
        for package in self.packages:
            if importlib.util.find_spec(package) is None:
                raise Unsupported(f"{package} is not installed")
        maker: Callable[[], Implementation] = getattr(importlib.import_module(self.module), self.maker)
        return maker()


def _known(*rows: tuple[str, ...]) -> dict[str, Known]:
    """From rows of the name, the module in this package, its function, and the packages it imports."""
    return {
        name: Known(name, f"xpent.conformance.implementations.{file}", maker, tuple(packages), _COMPILES.get(name, ""))
        for name, file, maker, *packages in rows
    }


_COMPILES = {"xpent jax": "jax", "xpent jax autodiff": "jax"}

# Later ones take longer and are started first.
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
    """Return an implementation that the suite knows by name.

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
        If the name is unknown.
    Unsupported
        If a package is not installed or a device is not available.

    Examples
    --------
    >>> from xpent import conformance
    >>> conformance.check(conformance.implementation("xpent numpy"), categories=["confident"], dtypes=["float32"]).holds
    True
    """
    if name not in KNOWN:
        raise ValueError(f"there is no implementation {name!r}; there are {', '.join(KNOWN)}")
    return KNOWN[name].make()
