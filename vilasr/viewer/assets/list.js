// The list of traces: filters, and only as many rows on the page as are seen.

const ROW = 50; // height of a row, as in the style
const filters = {
  run: byId("by-run"), task: byId("by-task"), result: byId("by-result"), stop: byId("by-stop"),
  feature: byId("by-feature"), change: byId("by-change"), search: byId("search"), from: byId("steps-from"), to: byId("steps-to"),
};
const FEATURES = {
  "": "everything",
  errors: "with tool errors",
  clean: "without tool errors",
  boxes: "with boxes",
  lines: "with lines",
  unmarked: "without marks",
  reflection: "with reflection",
  strict: "with strict reflection",
};
const HAS = {
  errors: (n) => columns.errors[n] > 0,
  clean: (n) => columns.errors[n] === 0,
  boxes: (n) => columns.boxes[n] > 0,
  lines: (n) => columns.lines[n] > 0,
  unmarked: (n) => columns.boxes[n] + columns.lines[n] === 0,
  reflection: (n) => columns.reflection[n] > 0,
  strict: (n) => columns.reflection[n] > 1,
};
let listed = columns.id.map((_, n) => n); // the traces that pass the filters, in the report's order

function options(select, choices) {
  select.replaceChildren(...choices.map(([value, label]) => el("option", { value, dir: "auto" }, plain(label, 60))));
}

const taskName = (task) => spaced(task) || "no type";
const distinct = (values) => [...new Set(values)].sort();

function fillFilters() {
  options(filters.run, [["", "all"], ...data.runs.map((_, n) => [String(n), runName(n)])]);
  filters.run.parentElement.hidden = data.runs.length < 2;
  options(filters.task, [["", "all"], ...distinct(columns.task).map((task) => [`=${task}`, taskName(task)])]);
  options(filters.result, [["", "all"], ["right", "right"], ["partly", "partly right"], ["wrong", "wrong"]]);
  options(filters.stop, [["", "all"], ...distinct(columns.stop).map((stop) => [stop, spaced(stop)])]);
  options(filters.feature, Object.entries(FEATURES));
  const found = new Set([...(columns.against_first ?? ""), ...(columns.against_before ?? "")]);
  const changes = Object.entries(CHANGES).filter(([change]) => found.has(change));
  options(filters.change, [["", "all"], ...changes.map(([change, { text }]) => [change, text])]);
  filters.change.parentElement.hidden = !COMPARED;
  options(byId("against"), [["first", "the first run"], ["before", "the run before"]]);
  byId("against").parentElement.hidden = !STAGES;
}

function compareWith(against) {
  state.against = against;
  byId("against").value = against;
}

/** How many items would be listed by each change. */
function showChanges(items) {
  for (const option of filters.change.options) {
    const count = items[option.value]?.size ?? 0;
    if (option.value) option.textContent = `${CHANGES[option.value].text} (${plural(count, "item")})`;
  }
}

function clearFilters() {
  for (const control of Object.values(filters)) control.value = "";
}

function showFiltered(filter) {
  clearFilters();
  for (const [key, value] of Object.entries(filter)) filters[key].value = key === "task" ? `=${value}` : String(value);
  applyFilters();
  goTo({ view: "traces", trace: listed.length ? listed[0] : state.trace, step: null });
}

function applyFilters() {
  choose();
  byId("list").scrollTop = 0;
  drawRows();
}

/** Searches in the texts too once they are there, for what the search holds by then; the list stays where it is. */
let deepened = false;
function deepen() {
  if (deepened) return;
  deepened = true;
  const failed = (error) => {
    const line = el("p", { class: "wide problem", role: "alert" });
    byId("count").parentElement.after(put(line, `Only ids, answers and truths are searched, the texts cannot be read: ${error}`));
  };
  loadTexts().then(() => { choose(); drawRows(); }, failed);
}

/** Sets `listed` to the traces that pass the filters. */
function choose() {
  const value = (key) => filters[key].value;
  const words = value("search").trim().toLowerCase();
  const from = value("from") === "" ? 0 : Number(value("from"));
  const to = value("to") === "" ? Infinity : Number(value("to"));
  const has = HAS[value("feature")];
  const holds = finder(words);
  const letters = columns[`against_${state.against}`];
  const items = Object.fromEntries(Object.keys(CHANGES).map((change) => [change, new Set()]));
  if (words) deepen();
  listed = [];
  for (let n = 0; n < COUNT; n++) {
    if (value("run") !== "" && columns.run[n] !== Number(value("run"))) continue;
    if (value("task") !== "" && `=${columns.task[n]}` !== value("task")) continue;
    if (value("stop") !== "" && columns.stop[n] !== value("stop")) continue;
    if (value("result") !== "" && verdict(columns.score[n]) !== value("result")) continue;
    if (columns.steps[n] < from || columns.steps[n] > to) continue;
    if (has && !has(n)) continue;
    if (!holds(n)) continue;
    if (letters) items[letters[n]]?.add(columns.item[n] * data.runs.length + columns.run[n]);
    if (value("change") !== "" && letters[n] !== value("change")) continue;
    listed.push(n);
  }
  if (COMPARED) showChanges(items);
  byId("count").textContent = `${listed.length.toLocaleString("en")} of ${plural(COUNT, "trace")}`;
  byId("rows").style.height = `${listed.length * ROW}px`;
}

const SIGNS = { right: "✓", partly: "≈", wrong: "✗" };

function row(position, current) {
  const n = listed[position];
  const kind = verdict(columns.score[n]);
  const marks = columns.boxes[n] + columns.lines[n];
  const change = changeOf(n);
  const run = COMPARED && filters.run.value === "" ? [word(runName(columns.run[n])), " · "] : [];
  const facts = [plural(columns.steps[n], "step"), plural(marks, "mark")];
  if (columns.errors[n]) facts.push(plural(columns.errors[n], "error"));
  if (columns.stop[n] !== "answered") facts.push(spaced(columns.stop[n]));
  const node = el(
    "div",
    {
      class: "row", role: "option", id: `row-${n}`, "aria-selected": String(position === current),
      "aria-posinset": position + 1, "aria-setsize": listed.length, title: plain(name(n), 300),
    },
    el("span", { class: `sign ${kind}`, role: "img", "aria-label": kind }, SIGNS[kind]),
    word(name(n), { class: "id" }),
    change ? changeSign(change, changeTitle(n)) : null,
    el("span", { class: "facts" }, ...run, word(taskName(columns.task[n]), { class: "task" }), ` · ${facts.join(" · ")}`),
  );
  node.style.top = `${position * ROW}px`;
  node.addEventListener("click", () => goTo({ view: "traces", trace: n, step: null }));
  return node;
}

function drawRows() {
  const list = byId("list");
  const first = Math.max(0, Math.floor(list.scrollTop / ROW) - 4);
  const last = Math.min(listed.length, Math.ceil((list.scrollTop + list.clientHeight) / ROW) + 4);
  const current = currentPosition();
  const rows = [];
  for (let position = first; position < last; position++) rows.push(row(position, current));
  byId("rows").replaceChildren(...rows);
  const selected = byId(`row-${listed[current]}`);
  if (selected) list.setAttribute("aria-activedescendant", selected.id);
  else list.removeAttribute("aria-activedescendant");
}

/** The row of the current trace or, where that is not listed, of its item in another run; -1 without. */
function currentPosition() {
  const position = listed.indexOf(state.trace);
  if (position >= 0 || !COMPARED) return position;
  return listed.indexOf(sameItem(state.trace).find((n) => listed.includes(n)));
}

/** Brings the current trace into sight. */
function revealRow() {
  const list = byId("list");
  const position = currentPosition();
  if (position >= 0) {
    const top = position * ROW;
    const above = list.scrollTop - top;
    const below = top + ROW - list.scrollTop - list.clientHeight;
    if (Math.max(above, below) > 2 * ROW) list.scrollTop = top - list.clientHeight / 2;
    else if (above > 0) list.scrollTop = top;
    else if (below > 0) list.scrollTop = top + ROW - list.clientHeight;
  }
  drawRows();
}

/** The next (1) or previous (-1) trace of the list. */
function neighbour(direction) {
  const position = currentPosition();
  if (position >= 0) return listed[Math.min(listed.length - 1, Math.max(0, position + direction))];
  return listed.length ? listed[0] : state.trace;
}
