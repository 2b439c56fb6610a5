// The class of each row of scores and how sure the model is, whether the rows hold probabilities or logits.
const SUM_OF_ONE = 0.02;

const sigmoid = (value) => 1 / (1 + Math.exp(-value));

export function softmax(row) {
  const top = row.reduce((most, value) => Math.max(most, value), -Infinity); // spread, long rows are too many arguments
  const powers = row.map((value) => Math.exp(value - top));
  const sum = powers.reduce((a, b) => a + b, 0);
  return powers.map((value) => value / sum);
}

export const areProbabilities = (values) => values.every((value) => value >= -1e-4 && value <= 1.0001);

// The place of the largest, `left out` aside.
export function largest(row, leftOut = -1) {
  let best = leftOut === 0 ? 1 : 0;
  for (let i = best + 1; i < row.length; i++) if (i !== leftOut && row[i] > row[best]) best = i;
  return best;
}

// Gives {items: [{label, score}], background}: the class that stands for nothing, or -1.
export function classify(rows) {
  const plain = rows.every(areProbabilities);
  const exclusive = plain ? rows.every((row) => Math.abs(row.reduce((a, b) => a + b, 0) - 1) < SUM_OF_ONE) : isSoftmax(rows);
  const background = exclusive ? backgroundOf(rows) : -1;
  const items = rows.map((row) => {
    const label = largest(row, background);
    if (plain) return { label, score: row[label] };
    return { label, score: exclusive ? softmax(row)[label] : sigmoid(row[label]) };
  });
  return { items, background };
}

// Most rows are of nothing. Logits for a softmax say so by the large one of a class of its own; those for sigmoids are all low.
function isSoftmax(rows) {
  const tops = rows.map((row) => row[largest(row)]).sort((a, b) => a - b);
  return tops[tops.length >> 1] > 0;
}

function backgroundOf(rows) {
  const last = rows[0].length - 1;
  const wins = (place) => rows.filter((row) => largest(row) === place).length;
  return wins(0) > wins(last) ? 0 : last;
}
