// How much of two lanes' replies is the same, and where they first differ: by tokens, as `infermesh compare` counts it
// (bench/agreement.py of libs/client; a test holds both together). A reply: {text, tokenIds, ttftS, tokensPerS, …}.
const CONTEXT = 24; // characters of each text that are shown around a difference

// Where the replies first differ: {token (from 0), before, first, second}; null if they are the same.
export function firstDifference(first, second) {
  const token = common(first.tokenIds, second.tokenIds);
  if (token === first.tokenIds.length && token === second.tokenIds.length) return null;
  const left = [...first.text], right = [...second.text]; // whole characters, also beyond 16 bits
  const split = common(left, right);
  const cut = (text, from, to) => text.slice(Math.max(0, from), to).join("");
  return {
    token, before: cut(left, split - CONTEXT, split),
    first: cut(left, split, split + CONTEXT), second: cut(right, split, split + CONTEXT),
  };
}

// The part of the tokens before the first difference of each pair, from 0 to 1. Tokens after a difference have
// different texts before them, so they say nothing and count as not the same.
export function agreement(first, second) {
  let same = 0, most = 0;
  first.forEach((one, i) => {
    same += common(one.tokenIds, second[i].tokenIds);
    most += Math.max(one.tokenIds.length, second[i].tokenIds.length);
  });
  return most ? same / most : 1;
}

// How many of the replies are the same to the last token.
export const wholeAnswers = (first, second) => first.filter((one, i) => !firstDifference(one, second[i])).length;

function common(left, right) {
  const least = Math.min(left.length, right.length);
  for (let i = 0; i < least; i++) if (left[i] !== right[i]) return i;
  return least;
}
