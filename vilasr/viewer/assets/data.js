// The data in the page: the list of traces at once, each trace and picture when it is looked at.

const data = JSON.parse(byId("index").textContent);
const columns = data.columns;
const COUNT = columns.id.length;
const CHUNKS_KEPT = 6;
const chunks = new Map();

/** The text of a data element, once the browser has read it. */
async function dataText(id) {
  const whole = () => byId(id)?.nextElementSibling || document.readyState !== "loading";
  if (!whole()) await new Promise((done) => document.addEventListener("DOMContentLoaded", done, { once: true }));
  return byId(id).textContent;
}

async function unpack(id) {
  const bytes = Uint8Array.from(atob(await dataText(id)), (character) => character.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate-raw"));
  return JSON.parse(await new Response(stream).text());
}

/** All that is known of trace `number` of the report. */
async function traceOf(number) {
  const chunk = Math.floor(number / data.chunk);
  if (!chunks.has(chunk)) chunks.set(chunk, unpack(`traces-${chunk}`));
  const traces = chunks.get(chunk);
  chunks.delete(chunk); // the last looked at stands last
  chunks.set(chunk, traces);
  if (chunks.size > CHUNKS_KEPT) chunks.delete(chunks.keys().next().value);
  return (await traces)[number % data.chunk];
}

async function pictureUrl(number) {
  return `data:image/webp;base64,${await dataText(`picture-${number}`)}`;
}

function verdict(score) {
  if (score >= 1) return "right";
  return score > 0 ? "partly" : "wrong";
}

/** What a run is called: its benchmark, or as much of its folder's path as tells it apart where several are of one. */
function runName(number) {
  const run = data.runs[number];
  return data.runs.filter((other) => other.benchmark === run.benchmark).length > 1 ? run.folder : run.benchmark;
}

const name = (number) => columns.id[number] + (columns.sample[number] ? ` #${columns.sample[number]}` : "");
