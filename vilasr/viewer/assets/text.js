// Text of models and data files reaches the page here, and only as text.

const SVG = "http://www.w3.org/2000/svg";

// Controls, invisible characters and those that turn the direction of text around. Joiners stay: some scripts need them.
const HIDDEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\u{e0000}-\u{e007f}\ud800-\udfff]/gu;
const LONG = 20000; // characters that are shown at once

const code = (character) => `U+${character.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}`;

/** The text with hidden characters spelled out; for titles, labels and pictures. */
function plain(text, limit = Infinity) {
  const whole = String(text ?? "");
  const cut = whole.length > limit ? `${whole.slice(0, limit)}…` : whole;
  return cut.replace(HIDDEN, (character) => `⟨${code(character)}⟩`);
}

/** Puts text into an element, hidden characters as marked codes. */
function put(node, text) {
  const whole = String(text ?? "");
  let from = 0;
  for (const match of whole.matchAll(HIDDEN)) {
    node.append(whole.slice(from, match.index), el("span", { class: "hidden" }, code(match[0])));
    from = match.index + match[0].length;
  }
  node.append(whole.slice(from));
  return node;
}

function set(node, attributes) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on") || name === "style" || name === "srcdoc") throw new Error(`attribute ${name}`);
    if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value === true ? "" : value);
  }
  return node;
}

/** An HTML element; children are elements, or texts of this page itself. */
function el(tag, attributes = {}, ...children) {
  const node = set(document.createElement(tag), attributes);
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

function svg(tag, attributes = {}, ...children) {
  const node = set(document.createElementNS(SVG, tag), attributes);
  node.append(...children);
  return node;
}

/** A short text from outside, isolated from the direction of what stands around it. */
function word(text, attributes = {}) {
  return put(el("bdi", attributes), text);
}

/** A long text from outside, in an area that scrolls; very long ones are shown in full on request. */
function block(text, attributes = {}) {
  const whole = String(text ?? "");
  const node = el("pre", { dir: "auto", tabindex: "0", ...attributes });
  if (whole.length <= LONG) return put(node, whole);
  put(node, whole.slice(0, LONG));
  const more = el("button", { type: "button" }, `Show all ${whole.length.toLocaleString("en")} characters`);
  more.addEventListener("click", () => {
    node.replaceChildren();
    put(node, whole);
  });
  node.append(el("br"), more);
  return node;
}

function button(label, action, attributes = {}) {
  const node = el("button", { type: "button", ...attributes }, label);
  node.addEventListener("click", action);
  return node;
}

const byId = (id) => document.getElementById(id);
const percent = (share) => (100 * share).toFixed(1);
const plural = (count, name) => `${count.toLocaleString("en")} ${name}${count === 1 ? "" : "s"}`;
const spaced = (name) => String(name).replaceAll("_", " ");
