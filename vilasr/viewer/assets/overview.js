// Scores, endings and drawing of all results, by benchmark.

/** A share as a bar with its 95 % interval. */
function shareBar(group) {
  const x = (share) => (100 * Math.min(1, Math.max(0, share))).toFixed(2);
  const picture = svg(
    "svg",
    { class: "share", viewBox: "0 0 100 10", preserveAspectRatio: "none", "aria-hidden": "true" },
    svg("rect", { class: "ground", x: 0, y: 1, width: 100, height: 8 }),
    svg("rect", { class: "value", x: 0, y: 1, width: x(group.mean), height: 8 }),
    svg("rect", { class: "interval", x: x(group.low), y: 4.2, width: Math.max(0.6, x(group.high) - x(group.low)), height: 1.6 }),
  );
  return el("td", { class: "bar" }, picture);
}

/** `texts` are the mean and interval as the scorer prints them. */
function shareCells(group, texts) {
  if (!group) return [el("td"), el("td"), el("td")];
  return [
    el("td", { class: "number" }, texts[0]),
    el("td", { class: "number dim", title: `95 % interval, ${group.method}` }, `${texts[1]} – ${texts[2]}`),
    shareBar(group),
  ];
}

function table(caption, head, rows) {
  const cells = head.map((text, n) => {
    const attributes = n === 0 ? {} : n === 1 ? { class: "number" } : { colspan: 3, class: "rule" };
    return el("th", { scope: "col", ...attributes }, text);
  });
  return el(
    "div",
    { class: "scroll", tabindex: "0" },
    el("table", {}, el("caption", {}, caption), el("thead", {}, el("tr", {}, ...cells)), el("tbody", {}, ...rows)),
  );
}

function scoreTable(run, number) {
  const rules = Object.keys(run.scores);
  const names = [...new Set(rules.flatMap((rule) => run.scores[rule].map((group) => group.name)))];
  const tasks = new Set(columns.task.filter((_, trace) => columns.run[trace] === number));
  const rows = names.map((text) => {
    const groups = rules.map((rule) => run.scores[rule].find((group) => group.name === text));
    const head = el("th", { scope: "row" });
    head.append(tasks.has(text) ? linkTo(text || "no type", { run: number, task: text }) : word(text));
    const items = Math.max(...groups.filter(Boolean).map((group) => group.count));
    return el("tr", {}, head, el("td", { class: "number" }, items.toLocaleString("en")), ...groups.flatMap((group, n) => shareCells(group, run.texts.scores[rules[n]][text])));
  });
  return table("Scores, %, with 95 % intervals", ["score", "items", ...rules], rows);
}

function linkTo(text, filter) {
  const node = button("", () => showFiltered(filter), { class: "link", title: "Show these traces" });
  node.append(word(text));
  return node;
}

/** Counts as bars; `filter(key)` is what a click on one shows. */
function countTable(caption, counts, filter, label = (key) => key) {
  if (!counts.length) return null;
  const total = counts.reduce((sum, [, count]) => sum + count, 0);
  const most = Math.max(...counts.map(([, count]) => count));
  const rows = counts.map(([key, count]) => {
    const head = el("th", { scope: "row" });
    head.append(filter ? linkTo(label(key), filter(key)) : word(label(key)));
    const picture = svg(
      "svg",
      { class: "share", viewBox: "0 0 100 10", preserveAspectRatio: "none", "aria-hidden": "true" },
      svg("rect", { class: "value", x: 0, y: 1, width: (100 * count) / most, height: 8 }),
    );
    return el(
      "tr",
      {},
      head,
      el("td", { class: "number" }, count.toLocaleString("en")),
      el("td", { class: "number dim" }, `${percent(count / total)} %`),
      el("td", { class: "bar" }, picture),
    );
  });
  return el("div", { class: "scroll", tabindex: "0" }, el("table", {}, el("caption", {}, caption), el("tbody", {}, ...rows)));
}

function figure(value, text) {
  return el("div", { class: "figure" }, el("strong", {}, value), el("span", {}, text));
}

function runSection(run, number) {
  const section = el("section", { class: "run" });
  const samples = run.samples > 1 ? `, ${run.samples} samples each` : "";
  section.append(el("h2", {}, word(runName(number))), el("p", { class: "dim" }, word(run.folder), `: ${plural(run.items, "item")}${samples}`));
  for (const line of run.problem_lines) section.append(put(el("p", { class: "problem", dir: "auto" }), line));
  for (const note of run.notes) section.append(put(el("p", { class: "note", dir: "auto" }), `Note: ${note}`));
  const steps = run.steps.reduce((sum, [count, traces]) => sum + count * traces, 0);
  const [rule, [overall]] = Object.entries(run.scores)[0];
  const [mean, low, high] = run.texts.scores[rule][overall.name];
  const rate = steps ? `${percent(run.unusable_steps / steps)} %` : "–";
  section.append(
    el(
      "div",
      { class: "figures" },
      figure(`${mean} %`, `${overall.name}, ${low} – ${high}`),
      figure(run.texts.steps, "steps a trace"),
      figure(run.texts.boxes, "boxes a trace"),
      figure(run.texts.lines, "lines a trace"),
      figure(rate, `tool errors: ${run.unusable_steps.toLocaleString("en")} of ${plural(steps, "step")}`),
      figure(`${run.texts.shares["reflection (Eq. 5)"][0]} %`, "of traces reflect (Eq. 5)"),
      figure(run.texts.reward, "mean reward"),
    ),
    scoreTable(run, number),
  );
  const shares = run.drawing.shares.map((group) =>
    el("tr", {}, el("th", { scope: "row" }, group.name), el("td", { class: "number" }, group.count.toLocaleString("en")), ...shareCells(group, run.texts.shares[group.name])),
  );
  const endings = Object.entries(run.stop_reasons).sort((a, b) => b[1] - a[1]);
  section.append(
    el(
      "div",
      { class: "columns" },
      table("Drawing", ["share of traces, %", "items", ""], shares),
      countTable("Endings", endings, (key) => ({ run: number, stop: key }), spaced),
      countTable("Tool errors, by kind", Object.entries(run.errors), null, spaced) ?? "",
      countTable("Steps a trace", run.steps, (key) => ({ run: number, from: key, to: key }), (key) => plural(key, "step")) ?? "",
    ),
  );
  const usage = Object.entries(run.usage).map(([key, count]) => `${spaced(key)} ${count.toLocaleString("en")}`);
  if (usage.length) section.append(put(el("p", { class: "dim" }), `Tokens and turns of all results: ${usage.join(", ")}`));
  return section;
}

function drawOverview() {
  const shown = COUNT === data.results ? "all of them" : COUNT.toLocaleString("en");
  const lines = [el("p", {}, `${plural(data.results, "trace")} scored; ${shown} can be looked at here.`)];
  if (data.left_out) lines.push(el("p", { class: "problem" }, `${plural(data.left_out, "picture")} had no room in this report.`));
  if (data.missing) lines.push(el("p", { class: "problem" }, `${plural(data.missing, "picture")} could not be read.`));
  if (data.skipped) lines.push(el("p", { class: "problem" }, `${plural(data.skipped, "folder")} could not be read and left out.`));
  byId("overview").replaceChildren(...lines, ...comparisonSections(), ...data.runs.map(runSection));
}
