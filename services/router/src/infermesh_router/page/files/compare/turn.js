// One run at a time: figures that are taken while another run asks would be too slow.
let running = ""; // title of what runs

// Takes the turn; returns why it cannot be had, or "".
export function takeTurn(title) {
  if (running) return `${running} is still running. Both at once would slow each other down.`;
  running = title;
  return "";
}

export function endTurn() {
  running = "";
}
