// Run the test vectors of cross_entropy against a loss in JavaScript: `node vectors.mjs cross_entropy.json`.
// With `wrapped` as second argument, negative labels count from the end, as indices do in Python.
import { readFileSync } from "node:fs";

const claims = ["indices", "ignore_index", "reduction='none'", "reduction='sum'", "reduction='mean'",
  "reduction='average'", "a single class", "no default ignore_index", "labels far out of range"];
const rounded = { float64: (x) => x, float32: Math.fround }; // the dtypes that results are rounded to

function ofRow(x, label) { // the target is taken out of the sum, so that nothing cancels
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

// Losses or their reduction, and the gradient of all logits: replace this by a call of your own loss.
function crossEntropy(loss, logits, labels, cotangent, { reduction, ignore_index }) {
  if (!["none", "sum", "mean"].includes(reduction) || labels.length !== logits.length || Array.isArray(labels[0])) {
    throw new RangeError(`reduction ${reduction}, ${labels.length} labels and ${logits.length} rows`);
  }
  const counted = labels.filter((label) => label !== ignore_index).length;
  const count = reduction === "mean" ? Math.max(counted, 1) : 1;
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

function nested({ dtype, shape, data }) { // the array, or array of rows, that an array of the file stands for
  const values = dtype === "float" ? data.map(number) : data, [rows, columns] = shape;
  if (shape.length < 2) return values;
  return Array.from({ length: rows }, (_, i) => values.slice(i * columns, (i + 1) * columns));
}

function answersOf(test, round, loss) { // or null if an error is thrown
  const [logits, labels] = Object.values(test.inputs).map(nested);
  try {
    const answers = crossEntropy(loss, logits, labels, test.cotangent ? nested(test.cotangent) : [1], test.options);
    return Object.fromEntries(Object.entries(answers).map(([name, values]) => [name, values.map(round)]));
  } catch (error) {
    if (error instanceof RangeError) return null;
    throw error;
  }
}

function fault(test, answers, bounds) { // what is wrong with the answers, or nothing
  if (answers === null) return test.result === "value" ? "an error is thrown" : "";
  if (test.result === "error") return "no error is thrown";
  for (const [name, expected] of Object.entries(test.expected)) {
    const { exact, units, rest, scale, mayBeNaN } = expected, found = answers[name];
    if (found.length !== exact.length) return `${name} has ${found.length} numbers instead of ${exact.length}`;
    for (const [i, answer] of found.entries()) {
      const right = number(exact[i]), error = Math.abs(answer - right - (rest ? number(rest[i]) : 0));
      const unit = number(bounds.u) * (scale ? number(scale[i]) : Math.abs(right));
      const allowed = Math.max(number(bounds.smallest), Math.min(number(units[i]), number(bounds.mostUnits)) * unit);
      const isRight = Number.isFinite(right) ? error <= allowed : Object.is(answer, right);
      if (!isRight && !(mayBeNaN?.[i] && Number.isNaN(answer))) {
        return `${name}[${i}] is ${answer} instead of ${right}: off by ${error}, where ${allowed} is allowed`;
      }
    }
  }
  return "";
}

const [path, name = "accurate"] = process.argv.slice(2);
const vectors = JSON.parse(readFileSync(path, "utf8"));
if (vectors.format !== 1) throw new Error(`format ${vectors.format} is not known`);
const counts = { pass: 0, FAIL: 0, skip: 0 };
for (const test of vectors.tests) {
  const isDue = test.needs.every((need) => claims.includes(need))
    && Object.keys(test.expected ?? {}).every((quantity) => ["value", "gradient"].includes(quantity));
  for (const dtype of test.dtypes.filter((dtype) => dtype in rounded)) {
    const found = isDue ? fault(test, answersOf(test, rounded[dtype], losses[name]), vectors.dtypes[dtype]) : "";
    const result = isDue ? (found ? "FAIL" : "pass") : "skip";
    counts[result] += 1;
    console.log(`${result} ${test.id}[${dtype}] ${found}`.trimEnd());
  }
}
console.log(`${name}: ${counts.pass} pass, ${counts.FAIL} fail, ${counts.skip} are skipped`);
process.exitCode = counts.FAIL > 0 ? 1 : 0;
