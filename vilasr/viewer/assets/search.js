// The search: in ids, answers and truths at once; in questions, options and prompts by their distinct lines.

const searched = columns.id.map((_, n) => `${name(n)}\n${columns.answer[n] ?? ""}\n${columns.truth[n]}`.toLowerCase());
let texts = null; // of the traces, once they are unpacked
let unpacking = null;

/** Unpacks the texts, once; resolves when they are there. */
function loadTexts() {
  unpacking ??= unpack("texts").then((found) => {
    texts = { ...found, lines: found.lines.map((line) => line.toLowerCase()) };
  });
  return unpacking;
}

/** A function that tells whether trace n holds the words. */
function finder(words) {
  if (!words) return () => true;
  if (!texts) return (n) => searched[n].includes(words);
  const lines = texts.lines.map((line) => line.includes(words));
  const found = texts.texts.map((numbers) => numbers.some((number) => lines[number]));
  return (n) => found[texts.of[n]] || searched[n].includes(words);
}
