// What is looked at (kept in the address, so that a place can be named), and the keys.

const state = {
  view: "overview", trace: 0, step: null, // null: the first
  duo: COMPARED, beside: null, at: null, // the other run's trace and its step, where two are side by side
  against: "first", mode: "both", marks: true, table: false,
};
let followed = null; // the address that is shown

function address({ view, trace, step, duo, beside, at }) {
  if (view === "overview") return "#view=overview";
  const part = (key, value) => (value === null ? "" : `&${key}=${value}`);
  const other = beside !== null ? part("beside", beside) + part("at", at) : COMPARED && !duo ? "&alone" : "";
  return `#trace=${trace}${part("step", step)}${other}`;
}

function goTo(change) {
  const next = { ...state, ...change };
  if (change.trace !== undefined && change.beside === undefined) {
    Object.assign(next, { beside: next.duo ? counterpart(next.trace) : null, at: null });
  }
  const turned = next.view !== state.view || next.trace !== state.trace;
  if (turned) location.hash = address(next);
  else history.replaceState(null, "", address(next)); // the way back leads from trace to trace, not from step to step
  follow();
}

/** Shows what the address names; at once, so that keys pressed in a row all count. */
function follow() {
  followed = location.hash;
  const place = new URLSearchParams(followed.slice(1));
  const count = (key) => (/^\d+$/.test(place.get(key) ?? "") ? Number(place.get(key)) : null);
  state.view = count("trace") === null ? "overview" : "traces";
  byId("overview").hidden = state.view !== "overview";
  byId("traces").hidden = state.view !== "traces";
  byId("to-overview").setAttribute("aria-current", String(state.view === "overview"));
  byId("to-traces").setAttribute("aria-current", String(state.view === "traces"));
  if (state.view === "overview") return;
  const trace = Math.min(COUNT - 1, count("trace"));
  const duo = COMPARED && !place.has("alone");
  const others = sameItem(trace).filter((n) => n !== trace);
  const beside = !duo ? null : others.includes(count("beside")) ? count("beside") : counterpart(trace);
  Object.assign(state, { trace, step: count("step"), duo, beside, at: beside === null ? null : count("at") });
  revealRow();
  const there = lanes.every((lane) => lane.trace) && String(lanes.map((lane) => lane.n)) === String(wantedTraces());
  const main = mainLane();
  if (!there || state.step === null || !main.node.classList.contains("main")) {
    drawTraces();
    return;
  }
  const other = besideLane();
  state.step = Math.min(main.trace.steps.length, state.step);
  if (other) state.at = Math.min(other.trace.steps.length, state.at ?? other.step);
  turnLanes();
}

function stepBy(lane, direction) {
  if (lane) turnTo(lane, lane.step + direction);
}

/** Another run's trace of the item; of two side by side each keeps its step. */
function openRun(n) {
  if (n === state.beside) goTo({ trace: n, step: state.at, beside: state.trace, at: state.step });
  else if (n !== state.trace) goTo({ trace: n, step: null });
}

function nextRun() {
  const traces = sameItem(state.trace);
  if (traces.length > 1) openRun(traces[(traces.indexOf(state.trace) + 1) % traces.length]);
}

function toggleDuo() {
  if (COMPARED) goTo({ duo: !state.duo, beside: state.duo ? null : counterpart(state.trace), at: null });
}

function nextMode() {
  state.mode = MODES[(MODES.indexOf(state.mode) + 1) % MODES.length];
  drawLanes();
}

function toggleMarks() {
  state.marks = !state.marks;
  drawLanes();
}

function toggleTheme() {
  const now = document.documentElement.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
  document.documentElement.dataset.theme = now === "dark" ? "light" : "dark";
}

const inTraces = (action) => () => state.view === "traces" && action();
const KEYS = {
  j: inTraces(() => goTo({ trace: neighbour(1), step: null })),
  k: inTraces(() => goTo({ trace: neighbour(-1), step: null })),
  ArrowRight: inTraces(() => stepBy(mainLane(), 1)),
  ArrowLeft: inTraces(() => stepBy(mainLane(), -1)),
  "Shift+ArrowRight": inTraces(() => stepBy(besideLane() ?? mainLane(), 1)),
  "Shift+ArrowLeft": inTraces(() => stepBy(besideLane() ?? mainLane(), -1)),
  x: inTraces(nextRun),
  c: inTraces(toggleDuo),
  b: inTraces(nextMode),
  m: inTraces(toggleMarks),
  o: () => goTo({ view: state.view === "overview" ? "traces" : "overview" }),
  t: toggleTheme,
  "?": () => byId("keys").showModal(),
  "/": () => {
    if (state.view !== "traces") goTo({ view: "traces" });
    setTimeout(() => byId("search").select());
  },
};

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || byId("keys").open) return;
  const typing = event.target.closest?.("input, select, textarea");
  if (typing && event.key === "Escape") typing.blur();
  if (typing && (typing.type !== "range" || event.key.startsWith("Arrow"))) return;
  const inList = event.target.id === "list";
  const key = inList && event.key === "ArrowDown" ? "j" : inList && event.key === "ArrowUp" ? "k" : event.key;
  const action = KEYS[event.shiftKey && key.startsWith("Arrow") ? `Shift+${key}` : key];
  if (!action) return;
  event.preventDefault();
  action();
});

let waiting = 0;
function later(action) {
  cancelAnimationFrame(waiting);
  waiting = requestAnimationFrame(action);
}

byId("title").replaceChildren();
put(byId("title"), data.title);
document.title = plain(data.title, 200);
for (const node of document.querySelectorAll("#keys .compared")) node.hidden = !COMPARED;
fillFilters();
drawOverview();
applyFilters();
byId("filters").addEventListener("input", applyFilters);
byId("against").addEventListener("input", () => { // before the filters are applied
  state.against = byId("against").value;
  if (state.duo && state.view === "traces") goTo({ trace: state.trace, step: state.step });
});
byId("filters").addEventListener("submit", (event) => event.preventDefault());
byId("clear").addEventListener("click", () => { clearFilters(); applyFilters(); });
byId("list").addEventListener("scroll", () => later(drawRows));
byId("to-overview").addEventListener("click", () => goTo({ view: "overview" }));
byId("to-traces").addEventListener("click", () => goTo({ view: "traces" }));
byId("theme").addEventListener("click", toggleTheme);
byId("help").addEventListener("click", () => byId("keys").showModal());
addEventListener("hashchange", () => location.hash !== followed && follow());
addEventListener("resize", () => later(() => { drawRows(); if (state.view === "traces") lanes.forEach(drawStep); }));
follow();
