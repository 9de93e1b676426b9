"""Run the test vectors of cross_entropy against a loss in plain Python: `python vectors.py cross_entropy.json`.

The second argument `textbook` selects the usual formulas, which are inaccurate for confident predictions.
"""

import json
import math
import struct
import sys
from pathlib import Path

SUPPORTED = {
    "indices", "ignore_index", "reduction='none'", "reduction='sum'", "reduction='mean'", "reduction='average'",
    "a single class", "no default ignore_index", "labels far out of range",
}  # fmt: skip
FORMATS = {"float64": "d", "float32": "f"}  # formats of struct for the dtypes to which results are rounded


def accurate(x, t):
    """Loss and gradient of a row; the sum omits the target, which avoids cancellation."""
    largest = max(x)
    z, terms = x[t] - largest, [0.0 if j == t else math.exp(v - largest) for j, v in enumerate(x)]
    rest, total = math.fsum(terms), math.fsum([*terms, math.exp(z)])
    return math.log1p(rest + math.expm1(z)) - z, [-rest / total if j == t else v / total for j, v in enumerate(terms)]


def textbook(x, t):
    """Loss and gradient of a row, by log(sum(exp(x))) - x_t and p - 1."""
    lse = max(x) + math.log(sum(math.exp(v - max(x)) for v in x))
    return lse - x[t], [math.exp(v - lse) - (j == t) for j, v in enumerate(x)]


def cross_entropy(of_row, logits, labels, cotangent, reduction, ignore_index=None):
    """Losses or their reduction, and the gradient of the logits. Replace this by a call of your own loss."""
    if reduction not in ("none", "sum", "mean") or len(labels) != len(logits):
        raise ValueError(f"got reduction {reduction}, {len(labels)} labels and {len(logits)} rows")
    losses, gradient = [], []
    count = max(sum(label != ignore_index for label in labels), 1) if reduction == "mean" else 1
    for i, (x, label) in enumerate(zip(logits, labels, strict=True)):
        if label != ignore_index and not 0 <= label < len(x):
            raise ValueError(f"got label {label} of {len(x)} classes")
        loss, slopes = (0.0, [0.0] * len(x)) if label == ignore_index else of_row(x, label)
        losses.append(loss)
        gradient += [cotangent[i if len(cotangent) > 1 else 0] * slope / count for slope in slopes]
    return {"value": losses if reduction == "none" else [sum(losses) / count], "gradient": gradient}


def nested(array):
    """Decode an array of the file as a list, or a list of rows."""
    data = list(map(float.fromhex, array["data"])) if array["dtype"] == "float" else array["data"]
    if len(array["shape"]) < 2:
        return data
    rows, columns = array["shape"]
    return [data[i * columns : (i + 1) * columns] for i in range(rows)]


def results_of(test, dtype, of_row):
    """Value and gradient, rounded to a dtype; None if an error is raised."""
    logits, labels = map(nested, test["inputs"].values())
    cotangent = nested(test["cotangent"]) if "cotangent" in test else [1.0]
    try:
        results = cross_entropy(of_row, logits, labels, cotangent, **test["options"])
    except (TypeError, ValueError):
        return None
    code = FORMATS[dtype]
    return {name: [struct.unpack(code, struct.pack(code, v))[0] for v in results[name]] for name in results}


def errors_in(test, results, bounds):
    """Yield a description of each error in the results."""
    if results is None or test["result"] == "error":
        if (results is None) != ("error" in test["result"]):
            yield "an error is raised" if results is None else "no error is raised"
        return
    u, most_units, smallest = (float.fromhex(bounds[part]) for part in ("u", "mostUnits", "smallest"))
    for name, expected in test["expected"].items():
        exact, units = (list(map(float.fromhex, expected[part])) for part in ("exact", "units"))
        zeros, may_be_nan = ["0x0p+0"] * len(exact), expected.get("mayBeNaN", [False] * len(exact))
        rest = map(float.fromhex, expected.get("rest", zeros))
        scale = map(float.fromhex, expected["scale"]) if "scale" in expected else map(abs, exact)
        if len(results[name]) != len(exact):
            yield f"{name} has {len(results[name])} numbers instead of {len(exact)}"
            continue
        for i, (a, e, r, n, s, nan) in enumerate(
            zip(results[name], exact, rest, units, scale, may_be_nan, strict=True)
        ):
            error, allowed = abs((a - e) - r), max(smallest, min(n, most_units) * u * s)
            is_within = error <= allowed if math.isfinite(e) else str(a) == str(e)
            if not is_within and not (nan and math.isnan(a)):
                yield f"{name}[{i}] is {a:.9g} instead of {e:.9g}: off by {error:.1e}, where {allowed:.1e} is allowed"


def main(path, loss="accurate"):
    """Print the result of every test, and return the number of failures."""
    vectors = json.loads(Path(path).read_text(encoding="utf-8"))
    assert vectors["format"] == 1, f"format {vectors['format']} is not supported"
    counts = {"pass": 0, "FAIL": 0, "skip": 0}
    for test in vectors["tests"]:
        is_supported = set(test["needs"]) <= SUPPORTED and set(test.get("expected", ())) <= {"value", "gradient"}
        for dtype in (dtype for dtype in test["dtypes"] if dtype in FORMATS):
            found, result = [], "skip"
            if is_supported:
                found = list(errors_in(test, results_of(test, dtype, globals()[loss]), vectors["dtypes"][dtype]))
                result = "FAIL" if found else "pass"
            counts[result] += 1
            print(f"{result} {test['id']}[{dtype}] {next(iter(found), '')}".rstrip())
    print(f"{loss}: {counts['pass']} pass, {counts['FAIL']} fail, {counts['skip']} skipped")
    return counts["FAIL"]


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]) > 0)
