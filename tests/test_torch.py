"""Autograd with the hand-written derivatives, compared with the textbook formulas and functions of PyTorch."""

import numpy as np
import pytest
import torch
from derivative_cases import (
    CASES,
    CLASS_WEIGHT,
    LABELS,
    LABELS3,
    Q3,
    X3,
    Q,
    X,
    assert_close,
    assert_orders_close,
    build,
    case,
)

import xpent

F = torch.nn.functional

pytestmark = pytest.mark.library("torch")
every_case = pytest.mark.parametrize("case", CASES, ids=[case.id for case in CASES])
SHARED_OPTIONS = [
    ((X, LABELS), {}, {}),
    ((X, LABELS), {"class_weight": CLASS_WEIGHT}, {"weight": CLASS_WEIGHT}),
    ((X, LABELS - 1), {"ignore_index": -1}, {"ignore_index": -1}),
    ((X, LABELS), {"label_smoothing": 0.2}, {"label_smoothing": 0.2}),
    (
        (X, LABELS),
        {"class_weight": CLASS_WEIGHT, "ignore_index": 0, "label_smoothing": 0.2},
        {"weight": CLASS_WEIGHT, "ignore_index": 0, "label_smoothing": 0.2},
    ),
    ((X3, LABELS3), {"axis": 1}, {}),
    ((X, Q), {"label_smoothing": 0.2}, {"label_smoothing": 0.2}),
    ((X3, Q3), {"axis": 1}, {}),
]
LAYOUTS = {
    "transposed": lambda x: x.T.contiguous().T,
    "strided": lambda x: x.repeat_interleave(2, -1)[:, ::2],
    "broadcast": lambda x: x[:1].expand(x.shape),
    "Fortran order in a corner": lambda x: F.pad(x, (1, 1, 1, 1)).T.contiguous().T[1:-1, 1:-1],
}


def weighted_sum(arrays):
    """A linear combination with a different coefficient for every entry."""
    return sum([(torch.linspace(-1, 2, a.numel()).to(a).reshape(a.shape) * a).sum() for a in arrays])


def derivatives(function, primals):
    """The value, the gradients of a linear combination of its entries, and so on up to the third order."""
    primals = [array.detach().requires_grad_() for array in primals]
    found = [[function(*primals)]]
    for _ in range(3):
        found.append(torch.autograd.grad(weighted_sum(found[-1]), primals, create_graph=True, materialize_grads=True))
    return found


@every_case
def test_three_orders_of_derivatives_agree_with_the_textbook(case, asarray):
    ours, theirs, primals = build(case, torch, asarray)
    assert_orders_close(derivatives(ours, primals), derivatives(theirs, primals), case)


@every_case
def test_backward_accumulates_gradients_only_for_tensors_that_require_them(case, asarray):
    ours, theirs, primals = build(case, torch, asarray)
    for index in {len(primals) - 1, 0}:
        expected = [array.detach().requires_grad_(i == index) for i, array in enumerate(primals)]
        actual = [array.detach().requires_grad_(i == index) for i, array in enumerate(primals)]
        for _ in range(2):
            weighted_sum([theirs(*expected)]).backward()
            weighted_sum([ours(*actual)]).backward()
        assert_close(actual[index].grad, expected[index].grad, case, order=1)
        assert all(array.grad is None for i, array in enumerate(actual) if i != index)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize(("arrays", "options", "theirs"), SHARED_OPTIONS)
def test_cross_entropy_and_its_derivatives_agree_with_torch(arrays, options, theirs, reduction, asarray):
    one, other = [
        {name: asarray(value) if isinstance(value, np.ndarray) else value for name, value in part.items()}
        for part in (options, theirs)
    ]
    x, t = asarray(arrays[0]), asarray(arrays[1])
    primals = (x, t) if t.is_floating_point() else (x,)
    fixed = () if t.is_floating_point() else (t,)
    actual = derivatives(lambda *primals: xpent.cross_entropy(*primals, *fixed, reduction=reduction, **one), primals)
    expected = derivatives(lambda *primals: F.cross_entropy(*primals, *fixed, reduction=reduction, **other), primals)
    assert_orders_close(actual, expected, case("", "cross_entropy", *arrays))


@pytest.mark.parametrize("axis", [-1, 1, 0])
def test_softmax_and_log_softmax_agree_with_torch(axis, asarray):
    x = asarray(X3)
    for ours, theirs in (
        (xpent.softmax, F.softmax),
        (xpent.log_softmax, F.log_softmax),
        (xpent.logsumexp, torch.logsumexp),
    ):
        actual = derivatives(lambda x, ours=ours: ours(x, axis=axis), [x])
        expected = derivatives(lambda x, theirs=theirs: theirs(x, dim=axis), [x])
        assert_orders_close(actual, expected, case("", ours.__name__, X3))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("axis", [-1, 0])
def test_result_does_not_depend_on_the_layout(layout, axis, asarray):
    for name in ("softmax", "log_softmax", "logsumexp"):
        ours, of_copy = [
            derivatives(lambda x, name=name, view=view: getattr(xpent, name)(view(x), axis=axis), [asarray(X)])
            for view in (LAYOUTS[layout], lambda x: LAYOUTS[layout](x).contiguous())
        ]
        assert_orders_close(ours, of_copy, case("", name, X))


@pytest.mark.parametrize("targets", [LABELS, Q], ids=["labels", "distribution"])
def test_loss_does_not_depend_on_the_layout_of_logits_and_weights(targets, asarray):
    x, weights = asarray(X), asarray(np.repeat(CLASS_WEIGHT, 2))
    t = asarray(targets) if targets.ndim == 1 else asarray(targets.T.copy()).T
    for layout in LAYOUTS.values():
        actual = derivatives(lambda x, layout=layout: xpent.cross_entropy(layout(x), t, class_weight=weights[::2]), [x])
        expected = derivatives(
            lambda x, layout=layout: xpent.cross_entropy(
                layout(x).contiguous(), t.contiguous(), class_weight=weights[::2].contiguous()
            ),
            [x],
        )
        assert_orders_close(actual, expected, case("", "cross_entropy", X))
