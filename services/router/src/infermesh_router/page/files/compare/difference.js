// Where two texts differ, word by word.
const MOST_CELLS = 6_000_000;

const words = (text) => text.match(/\s+|[^\s]+/g) || [];

// How many words at the beginning are the same; -1 if all are.
export function firstDifference(a, b) {
  if (a === b) return -1;
  const [left, right] = [a.split(/\s+/), b.split(/\s+/)];
  const at = left.findIndex((word, i) => word !== right[i]);
  return at < 0 ? left.length : at;
}

// The text `b` in parts: {text, differs} says which words are not in `a` at that place (longest common subsequence).
export function compareWords(a, b) {
  const left = words(a), right = words(b);
  let begin = 0;
  while (begin < left.length && begin < right.length && left[begin] === right[begin]) begin++;
  const rest = right.slice(begin);
  const common = commonWords(left.slice(begin), rest);
  const parts = [{ text: right.slice(0, begin).join(""), differs: false }];
  rest.forEach((word, i) => {
    const differs = !common.has(i) && (/\S/.test(word) || parts.at(-1).differs);
    if (parts.at(-1).differs === differs) parts.at(-1).text += word;
    else parts.push({ text: word, differs });
  });
  return parts.filter((part) => part.text);
}

// The places in `right` of the words that both have in the same order.
function commonWords(left, right) {
  const found = new Set(), width = right.length + 1;
  if ((left.length + 1) * width > MOST_CELLS) return found;
  const lengths = new Uint16Array((left.length + 1) * width);
  for (let i = left.length - 1; i >= 0; i--) {
    for (let j = right.length - 1; j >= 0; j--) {
      lengths[i * width + j] = left[i] === right[j]
        ? lengths[(i + 1) * width + j + 1] + 1
        : Math.max(lengths[(i + 1) * width + j], lengths[i * width + j + 1]);
    }
  }
  for (let i = 0, j = 0; i < left.length && j < right.length; ) {
    if (left[i] === right[j]) {
      found.add(j);
      i++;
      j++;
    } else if (lengths[(i + 1) * width + j] >= lengths[i * width + j + 1]) i++;
    else j++;
  }
  return found;
}
