"""Invalid arguments raise errors that say what was given and what is allowed."""

import types

import numpy as np
import pytest

import xpent

pytestmark = pytest.mark.unoptimized
LOGITS = np.asarray([[1.0, 3, 5], [1, -9, 4]])
LABELS = np.asarray([2, 1])
ONES = np.ones(5)

BAD_OPTIONS = [
    ({"reduction": "avg"}, ValueError, "reduction.*mean, sum, none.*'avg'"),
    ({"reduction": None}, ValueError, "reduction.*mean, sum, none.*None"),
    ({"label_smoothing": 1.5}, ValueError, r"label_smoothing.*0\.0 and 1\.0.*1\.5"),
    ({"label_smoothing": -0.1}, ValueError, r"label_smoothing.*0\.0 and 1\.0.*-0\.1"),
    ({"label_smoothing": float("nan")}, ValueError, "label_smoothing.*nan"),
    ({"label_smoothing": "much"}, TypeError, "label_smoothing.*number.*'much'"),
    ({"label_smoothing": True}, TypeError, "label_smoothing.*number.*True"),
    ({"label_smoothing": np.ones(1)}, ValueError, r"label_smoothing.*\(\).*\(1,\)"),
    ({"z_loss": np.asarray(True)[None]}, ValueError, r"z_loss.*\(\).*\(1,\)"),
    ({"z_loss": -1}, ValueError, "z_loss.*at least 0.*-1"),
    ({"z_loss": float("inf")}, ValueError, "z_loss.*inf"),
    ({"z_loss": None}, TypeError, "z_loss.*number.*None"),
    ({"normalizer": -2.0}, ValueError, r"normalizer.*-2\.0"),
    ({"normalizer": np.ones(1)}, ValueError, r"normalizer.*\(\).*\(1,\)"),
    ({"normalizer": 2.0, "reduction": "none"}, ValueError, "normalizer.*mean.*sum.*none"),
    ({"ignore_index": 1.5}, TypeError, "ignore_index.*1.5$"),
    ({"ignore_index": np.asarray(1)}, TypeError, "ignore_index.*int.*static_argnames or functools.partial"),
    ({"class_weight": ONES[:2]}, ValueError, r"class_weight.*\(3,\).*\(2,\)"),
    ({"class_weight": np.ones((2, 3))}, ValueError, r"class_weight.*\(3,\).*\(2, 3\)"),
    ({"class_weight": [1.0, 1, 1]}, TypeError, "class_weight.*array.*list"),
    ({"sample_weight": ONES[:3]}, ValueError, r"sample_weight.*\(2,\).*\(3,\)"),
    ({"sample_weight": np.ones((2, 1))}, ValueError, r"sample_weight.*\(2,\).*\(2, 1\)"),
    ({"sample_weight": 2.0}, TypeError, "sample_weight.*array.*float"),
    ({"where": np.ones((2, 3))}, TypeError, "where.*booleans.*float"),
    ({"where": np.ones((2, 2), dtype=bool)}, ValueError, r"where.*\(2, 3\).*\(2, 2\)"),
    ({"where": np.ones((4, 2, 3), dtype=bool)}, ValueError, r"where.*\(2, 3\).*\(4, 2, 3\)"),
    ({"axis": 2}, ValueError, "axis.*2 axes.*2"),
    ({"axis": -3}, ValueError, "axis.*2 axes.*-3"),
    ({"axis": (1, -1)}, ValueError, r"axis.*twice.*\(1, -1\)"),
    ({"axis": ()}, ValueError, r"axis.*at least one.*\(\)"),
    ({"axis": 1.0}, TypeError, r"axis.*int.*1\.0"),
    ({"axis": "last"}, TypeError, "axis.*int.*'last'"),
    ({"smoothing": 0.1}, TypeError, "no option smoothing; use label_smoothing.*logits, targets;.*axis, .*normalizer"),
    ({"dim": -1}, TypeError, "no option dim; use axis"),
    ({"label_smooting": 0.1}, TypeError, "no option label_smooting; use label_smoothing"),
    ({"weight": ONES[:3]}, TypeError, "no option weight; use class_weight"),
    ({"ignore_label": -1}, TypeError, "no option ignore_label; use ignore_index"),
    ({"size_average": False}, TypeError, "no option size_average; use reduction"),
    ({"keepdim": True}, TypeError, r"no option keepdim\. Arrays"),
]


BAD_DATA = [
    ({"label_smoothing": np.asarray(1.5)}, r"label_smoothing.*0\.0 and 1\.0.*1\.5"),
    ({"normalizer": np.asarray(-2.0)}, r"normalizer.*at least 0.*-2\.0"),
    ({"class_weight": np.asarray([1, 0.5, -2])}, r"class_weight.*at least 0.*-2\.0 at \(2,\)"),
    ({"sample_weight": np.asarray([1, -1])}, r"sample_weight.*at least 0.*-1 at \(1,\)"),
]


@pytest.mark.parametrize(("options", "error", "message"), BAD_OPTIONS, ids=lambda value: str(value)[:40])
def test_invalid_option_is_rejected(xp, options, error, message):
    theirs = {k: xp.asarray(v) if isinstance(v, np.ndarray) else v for k, v in options.items()}
    for function in (xpent.cross_entropy, xpent.grad(xpent.cross_entropy)):
        with pytest.raises(error, match=message):
            function(xp.asarray(LOGITS), xp.asarray(LABELS), **theirs)


@pytest.mark.only_for(lambda xp: xp.name != "dask")  # its arrays are not computed yet
@pytest.mark.parametrize(("options", "message"), BAD_DATA, ids=lambda value: str(value)[:40])
def test_option_arrays_with_values_out_of_range_are_rejected(xp, options, message):
    test_invalid_option_is_rejected(xp, options, ValueError, message)


BAD_ARRAYS = [
    (LOGITS, LABELS[:1], ValueError, r"\(2, 3\).*\(2,\).*\(2, 3\).*got \(1,\)"),
    (LOGITS, LABELS[:, None], ValueError, r"\(2, 3\).*\(2,\).*\(2, 3\).*got \(2, 1\)"),
    (LOGITS, LABELS.astype(float), TypeError, r"indices.*integers.*float.*astype\(int\) or targets\.long\(\)"),
    (LOGITS, LABELS.astype(bool), TypeError, r"indices.*integers.*bool.*astype\(int\) or targets\.long\(\)"),
    (LOGITS, LOGITS.astype(complex), TypeError, "distribution.*real.*complex"),
    (LOGITS.astype(complex), LABELS, TypeError, "logits.*real.*complex"),
    (np.asarray(1.0), np.asarray(0), ValueError, "axis.*0 axes"),
    (np.ones((2, 0)), LABELS, ValueError, r"at least one class.*\(2, 0\)"),
]


@pytest.mark.parametrize(("logits", "targets", "error", "message"), BAD_ARRAYS, ids=range(len(BAD_ARRAYS)))
def test_invalid_arrays_are_rejected(xp, logits, targets, error, message):
    x, t = (xp.asarray(a, "complex128" if a.dtype == complex else None) for a in (logits, targets))
    with pytest.raises(error, match=message):
        xp.call(xpent.cross_entropy, x, t)


def test_ignore_index_requires_indices(xp):
    with pytest.raises(ValueError, match=r"ignore_index.*indices.*sample_weight"):
        xp.call(xpent.cross_entropy, xp.asarray(LOGITS), xp.asarray(LOGITS), ignore_index=0)


@pytest.mark.parametrize("name", ["softmax", "log_softmax", "logsumexp", "softmax_jacobian"])
def test_every_function_checks_its_array_and_axis(xp, name):
    function = getattr(xpent, name)
    with pytest.raises(TypeError, match=r"x must be an array.*list.*numpy\.asarray\(x\)"):
        function([1.0, 2.0])
    with pytest.raises(TypeError, match=r"x must hold real numbers.*complex"):
        function(xp.asarray(np.ones(2), "complex128"))
    with pytest.raises(ValueError, match=r"axis.*2 axes.*5"):
        function(xp.asarray(LOGITS), axis=5)
    with pytest.raises(TypeError, match=rf"{name} has no option dim; use axis\. .*options are axis"):
        function(xp.asarray(LOGITS), dim=0)


def test_error_for_tables_names_the_conversion_to_an_array(xp):
    class Series:
        dtype, ndim, shape, to_numpy = LABELS.dtype, 1, LABELS.shape, LABELS.copy

    with pytest.raises(TypeError, match=r"targets must be an array.*Series: pass targets\.to_numpy\(\)"):
        xpent.cross_entropy(xp.asarray(LOGITS), Series())


def test_error_for_a_label_out_of_range_suggests_ignore_index(xp):
    x, t = xp.asarray(LOGITS), xp.asarray(np.asarray([2, -100]))
    if xp.is_traced:
        pytest.skip("the data is not looked at")
    with pytest.raises(ValueError, match=r"target -100 at \(1,\).*3 classes.*pass ignore_index=-100$"):
        xpent.cross_entropy(x, t)
    with pytest.raises(ValueError, match=r"target -100 at \(1,\).*numbered from 0$"):
        xpent.cross_entropy(x, t, ignore_index=-1)
    assert np.isfinite(xp.to_numpy(xpent.cross_entropy(x, t, ignore_index=-100)))


@pytest.mark.library("jax")
@pytest.mark.parametrize("name", ["axis", "ignore_index"])
def test_error_for_a_traced_option_suggests_static_argnames(name):
    import jax

    x, t = jax.numpy.asarray(LOGITS), jax.numpy.asarray(LABELS)
    with pytest.raises(TypeError, match=rf"{name} must be.*static_argnames or functools\.partial"):
        jax.jit(xpent.cross_entropy)(x, t, **{name: 1})
    assert jax.jit(xpent.cross_entropy, static_argnames=name)(x, t, **{name: 1}).shape == ()


def test_error_for_an_incomplete_library_names_it():
    class Incomplete:
        def __array_namespace__(self, api_version=None):
            module = types.ModuleType("incomplete")
            module.exp = module.where = abs
            return module

    with pytest.raises(TypeError, match=r"x is an array of incomplete.*it lacks .*isdtype.*zeros_like"):
        xpent.softmax(Incomplete())


def test_arrays_of_two_libraries_are_rejected(xp):
    # JAX converts arrays of NumPy.
    takes_numpy = xp.name in ("numpy", "jax", "jax-jit")
    other = pytest.importorskip("array_api_strict").asarray if takes_numpy else np.asarray
    x, t = xp.asarray(LOGITS), xp.asarray(LABELS)
    with pytest.raises(TypeError, match=r"one library.*logits.*targets"):
        xpent.cross_entropy(x, other([2, 1]))
    for name, value in (("class_weight", [1.0, 1, 1]), ("sample_weight", [1.0, 1]), ("where", [True, True, False])):
        with pytest.raises(TypeError, match=rf"one library.*{name}"):
            xpent.cross_entropy(x, t, **{name: other(value)})
    with pytest.raises(TypeError, match=r"one library.*where"):
        xpent.softmax(x, where=other([True, True, False]))


@pytest.mark.library("torch")
def test_tensors_on_two_devices_are_rejected():
    import torch

    on_meta = torch.ones(2, dtype=torch.int64, device="meta")
    with pytest.raises(ValueError, match=r"one device.*logits on cpu.*targets on meta"):
        xpent.cross_entropy(torch.tensor(LOGITS), on_meta)


@pytest.mark.library("array-api-strict")
def test_arrays_on_two_devices_are_rejected():
    import array_api_strict as strict

    elsewhere = strict.asarray(LABELS, device=strict.Device("device1"))
    with pytest.raises(ValueError, match=r"one device.*logits.*targets.*device1"):
        xpent.cross_entropy(strict.asarray(LOGITS), elsewhere)


def test_masked_array_is_rejected_because_its_mask_would_be_lost():
    with pytest.raises(TypeError, match="masked array"):
        xpent.softmax(np.ma.masked_array([1.0, 2.0, 100.0], mask=[False, False, True]))
