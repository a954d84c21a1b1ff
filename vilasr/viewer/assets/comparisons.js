// The overview's comparisons of runs, in the figures of the scorer.

const COUNTED = ["f", "b", "r", "p", "w"];

function numberCell(text, attributes = {}) {
  return el("td", { class: "number", ...attributes }, text);
}

/** A count that leads to its traces, where the report holds any. */
function changeCell(pair, change) {
  const count = pair.changes[change];
  const against = pair.against[0];
  const there = columns.run.some((run, n) => run === pair.second && columns[`against_${against}`][n] === change);
  if (!count || !there) return numberCell(count.toLocaleString("en"));
  const show = () => {
    compareWith(against);
    showFiltered({ run: pair.second, change });
  };
  return el("td", { class: "number" }, button(count.toLocaleString("en"), show, { class: "link", title: "Show these traces" }));
}

function pairTable(pairs) {
  const changes = COUNTED.filter((change) => change !== "p" || pairs.some((pair) => pair.changes.p));
  const paired = pairs.some((pair) => pair.mcnemar !== null);
  const apart = pairs.some((pair) => pair.only_first || pair.only_second);
  const head = [
    "first", "second", "items", "difference", "95 % interval", "p", ...changes.map((change) => CHANGES[change].text),
    ...(paired ? ["McNemar's p"] : []), ...(apart ? ["only in the first", "only in the second"] : []),
  ];
  const rows = pairs.map((pair) => {
    const [, , , , difference = "–", interval = "–", p = "–"] = pair.rows[0] ?? [];
    const runs = [pair.first, pair.second].map((run) => el("th", { scope: "row" }, word(runName(run))));
    const cells = [pair.items.toLocaleString("en"), difference, interval, p].map((text) => numberCell(text));
    if (paired) cells.push(numberCell(pair.mcnemar ?? "–", pair.mcnemar ? {} : { title: "Only for scores of 0 or 1" }));
    if (apart) cells.push(numberCell(pair.only_first.toLocaleString("en")), numberCell(pair.only_second.toLocaleString("en")));
    cells.splice(4, 0, ...changes.map((change) => changeCell(pair, change)));
    return el("tr", {}, ...runs, ...cells);
  });
  const cells = head.map((text, n) => el("th", { scope: "col", class: n < 2 ? null : "number" }, text));
  const caption = el("caption", {}, "Items that changed, and the overall difference");
  return el("div", { class: "scroll", tabindex: "0" }, el("table", { class: "pairs" }, caption, el("thead", {}, el("tr", {}, ...cells)), el("tbody", {}, ...rows)));
}

function differenceTable(pair) {
  const head = ["score", "items", "first", "second", "difference", "95 % interval", "p"];
  const rows = pair.rows.map(([measure, count, ...figures]) => {
    const cells = [count.toLocaleString("en"), ...figures].map((text) => numberCell(text));
    return el("tr", {}, el("th", { scope: "row" }, word(measure || "no type")), ...cells);
  });
  const cells = head.map((text, n) => el("th", { scope: "col", class: n ? "number" : null }, text));
  return el("div", { class: "scroll", tabindex: "0" }, el("table", { class: "pairs" }, el("thead", {}, el("tr", {}, ...cells)), el("tbody", {}, ...rows)));
}

function comparisonSection(benchmark) {
  const pairs = data.comparisons.filter((pair) => pair.benchmark === benchmark);
  const section = el(
    "section", { class: "run" },
    el("h2", {}, word(benchmark), ": runs compared"),
    el(
      "p", { class: "dim" },
      "Second minus first, in points, by the corrected rule, over the items of both (same id and same question; an item's samples are averaged). ",
      "Fixed: a higher score in the second; broken: a lower one. p: sign-flip permutation test, two-sided, not corrected for the number of rows.",
    ),
    pairTable(pairs),
  );
  for (const pair of pairs) {
    const title = el("summary", {}, "Differences by score: ", word(runName(pair.first)), " → ", word(runName(pair.second)));
    section.append(el("details", { open: pairs.length === 1 }, title, differenceTable(pair)));
  }
  return section;
}

/** Which runs of one benchmark could not be compared, in a line. */
function apartNote() {
  if (!data.apart.length) return null;
  const named = data.apart.slice(0, 3).map(([first, second]) => `${runName(first)} and ${runName(second)}`);
  const more = data.apart.length > 3 ? `, and ${plural(data.apart.length - 3, "more pair")}` : "";
  return put(el("p", { class: "note", dir: "auto" }), `Not compared, as they have no item in common (same id and same question): ${named.join("; ")}${more}`);
}

function comparisonSections() {
  const benchmarks = [...new Set(data.comparisons.map((pair) => pair.benchmark))];
  return [apartNote(), ...benchmarks.map(comparisonSection)].filter(Boolean);
}
