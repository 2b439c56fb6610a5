// Where two texts differ, word by word.
const MOST_CELLS = 6_000_000;
const UNSPACED = "\\p{Script=Han}\\p{Script=Hiragana}\\p{Script=Katakana}\\p{Script=Thai}"; // each sign is a word
const WORDS = new RegExp(`\\s+|[${UNSPACED}]|[^\\s${UNSPACED}]+`, "gu");

const words = (text) => text.match(WORDS) || [];
const isWord = (part) => /\S/.test(part);

// How many words at the beginning are the same; -1 if all are, and no text has more.
export function firstDifference(a, b) {
  const [left, right] = [words(a).filter(isWord), words(b).filter(isWord)];
  const at = commonStart(left, right);
  return at === left.length && at === right.length ? -1 : at;
}

// The text `b` in parts of {text, kind}: "same", "differs" for words that `a` does not have at that place, and "missing" for
// words of `a` that have nothing in their place here (by the longest common subsequence).
export function compareWords(a, b) {
  const left = words(a), right = words(b);
  const begin = commonStart(left, right);
  const [oldRest, newRest] = [left.slice(begin), right.slice(begin)];
  const parts = [{ text: right.slice(0, begin).join(""), kind: "same" }];
  const add = (text, kind) => {
    if (parts.at(-1).kind === kind) parts.at(-1).text += text;
    else parts.push({ text, kind });
  };
  let i = 0, j = 0;
  for (const [nextI, nextJ] of [...commonWords(oldRest, newRest), [oldRest.length, newRest.length]]) {
    addGap(add, oldRest.slice(i, nextI), newRest.slice(j, nextJ));
    if (nextJ < newRest.length) add(newRest[nextJ], "same");
    [i, j] = [nextI + 1, nextJ + 1];
  }
  return parts.filter((part) => part.text);
}

function addGap(add, old, fresh) {
  if (fresh.some(isWord)) add(fresh.join(""), "differs");
  else {
    if (old.some(isWord)) add(old.join("").trim(), "missing");
    add(fresh.join(""), "same");
  }
}

function commonStart(left, right) {
  const least = Math.min(left.length, right.length);
  let at = 0;
  while (at < least && left[at] === right[at]) at++;
  return at;
}

// The places [in left, in right] of the words that both have in the same order. None, if there are too many to compare.
function commonWords(left, right) {
  const found = [], width = right.length + 1;
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
    if (left[i] === right[j]) found.push([i++, j++]);
    else if (lengths[(i + 1) * width + j] >= lengths[i * width + j + 1]) i++;
    else j++;
  }
  return found;
}
