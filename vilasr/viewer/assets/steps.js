// What was asked, what each step said and what came back, and how it ended.

function part(title, ...nodes) {
  return el("section", { class: "part" }, el("h3", {}, title), ...nodes);
}

function folded(title, ...nodes) {
  return el("details", {}, el("summary", {}, title), ...nodes);
}

function badge(text, kind = "") {
  return word(text, { class: `badge ${kind}` });
}

/** The marks as they were carried out, in the form of a reply. */
function call(trace, step) {
  const rows = step.marks.map((key) => {
    const [kind, index, x1, y1, x2, y2, text] = trace.marks[key];
    const points = kind === "box" ? { bbox_2d: [x1, y1, x2, y2] } : { start_point_2d: [x1, y1], end_point_2d: [x2, y2] };
    const fields = Object.entries({ index, ...points, label: text });
    return `  {\n${fields.map(([field, value]) => `    "${field}": ${JSON.stringify(value).replaceAll(",", ", ")}`).join(",\n")}\n  }`;
  });
  return `[\n${rows.join(",\n")}\n]`;
}

function eventList(events) {
  if (!events.length) return null;
  const items = events.map(([kind, text]) => {
    const node = el("li", {}, spaced(kind));
    if (text) node.append(": ", word(text));
    return node;
  });
  return part("Events", el("ul", {}, ...items));
}

function stepSections(trace, number) {
  if (number === 0) {
    const messages = (trace.prompt ?? []).map(([role, text]) => folded(plain(role, 20), block(text)));
    if (messages.length) messages.at(-1).open = true;
    const asked = part("What the model was asked", ...messages);
    return [asked, eventList(trace.before ?? [])];
  }
  const step = trace.steps[number - 1];
  const badges = el("p", { class: "badges" });
  if (step.action) badges.append(badge(step.action));
  if (step.error) badges.append(badge(`unusable: ${spaced(step.error)}`, "wrong"));
  for (const departure of step.departures) badges.append(badge(`departs: ${spaced(departure)}`, "partly"));
  if (step.finish !== "stop") badges.append(badge(`ended by: ${spaced(step.finish)}`, "partly"));
  const raw = folded("Reply as written", block(step.text));
  raw.open = Boolean(step.error) || (!step.thought && !step.marks.length);
  return [
    badges,
    step.thought ? part("Thought", block(step.thought, { class: "prose" })) : null,
    step.marks.length ? part("Call, in the image's pixels", block(call(trace, step), { dir: "ltr" })) : null,
    step.answer === null ? null : part("Answer", block(step.answer, { class: "prose" })),
    eventList(step.events),
    raw,
    step.told ? folded("What the model was told next", block(step.told)) : null,
  ];
}

function outcome(trace, n) {
  const kind = verdict(columns.score[n]);
  const words = { right: "right", partly: `partly right (${columns.score[n]})`, wrong: "wrong" };
  const list = el("dl", { class: `outcome ${kind}` });
  const line = (title, node) => list.append(el("dt", {}, title), el("dd", {}, node));
  line("Answer", trace.answer === null || trace.answer === undefined ? "none" : block(trace.answer, { class: "prose" }));
  line("Truth", block(trace.truth ?? columns.truth[n], { class: "prose" }));
  line("Result", el("strong", { class: kind }, `${SIGNS[kind]} ${words[kind]}`));
  const scores = Object.entries(trace.scores).map(([rule, score]) => `${rule} ${score}`);
  line("Scores", word(scores.join(", ")));
  line("Ending", badge(spaced(columns.stop[n]), columns.stop[n] === "answered" ? "" : "wrong"));
  if (trace.unreadable) line("Note", "The answer says nothing of the question's type.");
  if (trace.problem) line("Problem", block(trace.problem));
  if (trace.detail && trace.detail !== trace.problem) line("Detail", block(trace.detail));
  return part("Outcome", list);
}

function optionList(trace, n) {
  if (!trace.options?.length) return null;
  const letter = (text) => String(text ?? "").trim().slice(0, 1).toUpperCase();
  const items = trace.options.map((text, k) => {
    const own = String.fromCharCode(65 + k);
    const node = el("li", {}, word(/^[A-Z][.:)]/.test(text) ? text : `${own}. ${text}`));
    if (columns.kind[n] === "multiple choice" && letter(trace.truth) === own) node.append(badge("truth", "right"));
    return node;
  });
  return el("ul", { class: "options" }, ...items);
}
