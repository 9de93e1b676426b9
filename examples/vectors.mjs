// Run the test vectors of cross_entropy against a loss in JavaScript: `node vectors.mjs cross_entropy.json`.
// The second argument `wrapped` selects a loss in which negative labels index from the end, as in Python.
import { readFileSync } from "node:fs";

const supported = ["indices", "ignore_index", "reduction='none'", "reduction='sum'", "reduction='mean'",
  "reduction='average'", "a single class", "no default ignore_index", "labels far out of range"];
const rounded = { float64: (x) => x, float32: Math.fround }; // the dtypes to which results are rounded

function ofRow(x, label) { // the sum omits the target, which avoids cancellation
  const largest = Math.max(...x), z = x[label] - largest;
  const terms = x.map((v, j) => (j === label ? 0 : Math.exp(v - largest)));
  const rest = terms.reduce((sum, v) => sum + v, 0), total = rest + Math.exp(z);
  const gradient = terms.map((v, j) => (j === label ? -rest : v) / total);
  return [Math.log1p(rest + Math.expm1(z)) - z, gradient];
}

const losses = {
  accurate(x, label) {
    if (!(Number.isInteger(label) && label >= 0 && label < x.length)) {
      throw new RangeError(`label ${label} of ${x.length} classes`);
    }
    return ofRow(x, label);
  },
  wrapped: (x, label) => ofRow(x, label < 0 ? label + x.length : label),
};

// Losses or their reduction, and the gradient of the logits. Replace this by a call of your own loss.
function crossEntropy(loss, logits, labels, cotangent, { reduction, ignore_index }) {
  if (!["none", "sum", "mean"].includes(reduction) || labels.length !== logits.length || Array.isArray(labels[0])) {
    throw new RangeError(`reduction ${reduction}, ${labels.length} labels and ${logits.length} rows`);
  }
  const active = labels.filter((label) => label !== ignore_index).length;
  const count = reduction === "mean" ? Math.max(active, 1) : 1;
  const rows = logits.map((x, i) => (labels[i] === ignore_index ? [0, x.map(() => 0)] : loss(x, labels[i])));
  const value = rows.map(([loss]) => loss), g = (i) => cotangent[cotangent.length > 1 ? i : 0] / count;
  return {
    value: reduction === "none" ? value : [value.reduce((sum, v) => sum + v, 0) / count],
    gradient: rows.flatMap(([, gradient], i) => gradient.map((v) => g(i) * v)),
  };
}

function number(text) { // like -0x1.8p+1
  const match = /^(-?)0x([01])\.?([0-9a-f]*)p(.*)$/.exec(text);
  if (match === null) return { nan: NaN, inf: Infinity, "-inf": -Infinity }[text];
  const [, sign, whole, fraction, exponent] = match;
  return (sign ? -1 : 1) * parseInt(whole + fraction, 16) * 2 ** (exponent - 4 * fraction.length);
}

function nested({ dtype, shape, data }) { // decode an array of the file as an array, or an array of rows
  const values = dtype === "float" ? data.map(number) : data, [rows, columns] = shape;
  if (shape.length < 2) return values;
  return Array.from({ length: rows }, (_, i) => values.slice(i * columns, (i + 1) * columns));
}

function resultsOf(test, round, loss) { // null if an error is thrown
  const [logits, labels] = Object.values(test.inputs).map(nested);
  try {
    const results = crossEntropy(loss, logits, labels, test.cotangent ? nested(test.cotangent) : [1], test.options);
    return Object.fromEntries(Object.entries(results).map(([name, values]) => [name, values.map(round)]));
  } catch (error) {
    if (error instanceof RangeError) return null;
    throw error;
  }
}

function errorIn(test, results, bounds) { // a description of the first error in the results, or ""
  if (results === null) return test.result === "value" ? "an error is thrown" : "";
  if (test.result === "error") return "no error is thrown";
  for (const [name, expected] of Object.entries(test.expected)) {
    const { exact, units, rest, scale, mayBeNaN } = expected, found = results[name];
    if (found.length !== exact.length) return `${name} has ${found.length} numbers instead of ${exact.length}`;
    for (const [i, result] of found.entries()) {
      const value = number(exact[i]), error = Math.abs(result - value - (rest ? number(rest[i]) : 0));
      const unit = number(bounds.u) * (scale ? number(scale[i]) : Math.abs(value));
      const allowed = Math.max(number(bounds.smallest), Math.min(number(units[i]), number(bounds.mostUnits)) * unit);
      const isWithin = Number.isFinite(value) ? error <= allowed : Object.is(result, value);
      if (!isWithin && !(mayBeNaN?.[i] && Number.isNaN(result))) {
        return `${name}[${i}] is ${result} instead of ${value}: off by ${error}, where ${allowed} is allowed`;
      }
    }
  }
  return "";
}

const [path, name = "accurate"] = process.argv.slice(2);
const vectors = JSON.parse(readFileSync(path, "utf8"));
if (vectors.format !== 1) throw new Error(`format ${vectors.format} is not supported`);
const counts = { pass: 0, FAIL: 0, skip: 0 };
for (const test of vectors.tests) {
  const isSupported = test.needs.every((need) => supported.includes(need))
    && Object.keys(test.expected ?? {}).every((quantity) => ["value", "gradient"].includes(quantity));
  for (const dtype of test.dtypes.filter((dtype) => dtype in rounded)) {
    const found = isSupported ? errorIn(test, resultsOf(test, rounded[dtype], losses[name]), vectors.dtypes[dtype]) : "";
    const result = isSupported ? (found ? "FAIL" : "pass") : "skip";
    counts[result] += 1;
    console.log(`${result} ${test.id}[${dtype}] ${found}`.trimEnd());
  }
}
console.log(`${name}: ${counts.pass} pass, ${counts.FAIL} fail, ${counts.skip} skipped`);
process.exitCode = counts.FAIL > 0 ? 1 : 0;
