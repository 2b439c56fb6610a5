// Leaves out boxes that overlap a surer one of their class.
const MOST_OVERLAP = 0.5;

export function suppress(boxes, most) {
  const kept = [];
  for (const box of [...boxes].sort((a, b) => b.score - a.score)) {
    if (kept.length === most) break;
    if (!kept.some((each) => each.label === box.label && overlap(each, box) > MOST_OVERLAP)) kept.push(box);
  }
  return kept;
}

function overlap(a, b) {
  const wide = Math.min(a.right, b.right) - Math.max(a.left, b.left);
  const tall = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
  if (wide <= 0 || tall <= 0) return 0;
  const area = (box) => (box.right - box.left) * (box.bottom - box.top);
  return (wide * tall) / (area(a) + area(b) - wide * tall);
}
