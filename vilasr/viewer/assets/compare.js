// Runs of one benchmark item by item: which traces are of the same item, and what changed. The report's letters of
// changes (f, b, ...) are those of vilasr/viewer/comparisons.py.

const COMPARED = data.comparisons.length > 0;
const CHANGES = {
  f: { sign: "▲", text: "fixed", kind: "right" },
  b: { sign: "▼", text: "broken", kind: "wrong" },
  r: { sign: "=", text: "same, right", kind: "dim" },
  p: { sign: "=", text: "same, partly right", kind: "dim" },
  w: { sign: "=", text: "same, wrong", kind: "dim" },
  o: { sign: "+", text: "only in this run", kind: "dim" },
};
/** Whether it matters if runs are compared with the first or with the one before: with three of a benchmark. */
const STAGES = data.comparisons.some((pair) => pair.against.length === 1);

const itemTraces = new Map(); // the traces of each item, in the order of the runs
(columns.item ?? []).forEach((item, n) => {
  if (item < 0) return;
  if (!itemTraces.has(item)) itemTraces.set(item, []);
  itemTraces.get(item).push(n);
});

/** What changed between the run that trace `n`'s is compared with and its own, or undefined. */
const changeOf = (n) => CHANGES[columns[`against_${state.against}`]?.[n]];

/** The run that another is compared with, or undefined. */
const baseOf = (run) => data.comparisons.find((pair) => pair.second === run && pair.against.includes(state.against))?.first;

/** For each run that has the item of trace `n`, in order, its trace of the same sample, or else its first. */
function sameItem(n) {
  const byRun = new Map();
  for (const other of itemTraces.get(columns.item?.[n]) ?? []) {
    const run = columns.run[other];
    if (!byRun.has(run) || columns.sample[other] === columns.sample[n]) byRun.set(run, other);
  }
  return [...byRun.values()];
}

/** The trace that stands beside `n`: of the run its own is compared with, or of the next one, or null. */
function counterpart(n) {
  const others = sameItem(n).filter((other) => columns.run[other] !== columns.run[n]);
  const base = baseOf(columns.run[n]);
  return others.find((other) => columns.run[other] === base) ?? others.find((other) => columns.run[other] > columns.run[n]) ?? others.at(-1) ?? null;
}

function changeSign(change, title) {
  return el("span", { class: `change ${change.kind}`, role: "img", "aria-label": title, title }, change.sign);
}

const changeTitle = (n) => `${changeOf(n).text}, compared with ${plain(runName(baseOf(columns.run[n])), 80)}`;
