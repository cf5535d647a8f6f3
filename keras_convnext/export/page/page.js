/** Classifies photos that are dropped, chosen or pasted, by a model that runs in this browser. */

import { decoded, inWords, pixelsOf } from "./preprocessing.js";

const SHOWN = 5; // classes
const parts = Object.fromEntries(
  [...document.querySelectorAll("[id]")].map((part) => [part.id, part]),
);
let turn = 0; // the number of the photo that is classified; answers for earlier ones are not shown

const model = opened();
model.then(
  () => turn || say("The model is ready."),
  (error) => say(error.message),
);

async function opened() {
  say("Loading the model …");
  const said = await fetched("model.json").then((answer) => answer.json());
  describe(said);
  const runtime = await import("./runtime/ort.wasm.bundle.min.mjs");
  if (runtime.missing) {
    parts.runtime.hidden = false;
    throw new Error("The model cannot run yet.");
  }
  runtime.env.logLevel = "error";
  runtime.env.wasm.numThreads = 1; // more need headers that simple servers do not send
  const wasm = new URL("runtime/ort-wasm-simd-threaded.wasm", document.baseURI).href;
  runtime.env.wasm.wasmPaths = { wasm };
  const bytes = await bytesOf("model.onnx", said.bytes);
  const session = await runtime.InferenceSession.create(bytes, { logSeverityLevel: 3 });
  return { said, runtime, session };
}

async function fetched(name) {
  const answer = await fetch(name);
  if (answer.ok) return answer;
  throw new Error(`${name} is missing beside this page: export the model again.`);
}

/** Returns the content of a file of known size, while the bar shows how much of it is here. */
async function bytesOf(name, size) {
  const bytes = new Uint8Array(size);
  const reader = (await fetched(name)).body.getReader();
  let here = 0;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    if (here + value.length > size) break;
    bytes.set(value, here);
    here += value.length;
    say("Loading the model …", here / size);
  }
  if (here === size) return bytes;
  throw new Error(`${name} is not the file that was exported: export the model again.`);
}

function say(text, share = null) {
  parts.status.classList.remove("late");
  parts.status.textContent = text;
  parts.bar.hidden = share === null;
  parts.bar.value = share ?? 0;
}

/** Shows what the model is; all texts of the model are shown as texts, whatever they hold. */
function describe(said) {
  document.title = said.title;
  parts.model.textContent = said.title;
  parts.transform.textContent = inWords(said.transform);
  const { licence } = said;
  if (!licence) return;
  parts.weights.hidden = false;
  parts.licence.textContent = licence.name;
  if (licence.url?.startsWith("https://")) parts.licence.href = licence.url;
  parts.commercial.hidden = !licence.non_commercial;
}

async function show(file) {
  const mine = ++turn;
  parts.drop.classList.add("filled");
  URL.revokeObjectURL(parts.photo.src);
  parts.photo.src = URL.createObjectURL(file);
  parts.answers.replaceChildren();
  try {
    const ready = await model;
    if (mine !== turn) return;
    say("Looking …");
    await painted();
    const start = performance.now();
    const found = await probabilities(ready, await decoded(file));
    if (mine !== turn) return;
    parts.answers.replaceChildren(...best(found, ready.said));
    say(`Done in ${((performance.now() - start) / 1000).toFixed(1)} seconds.`);
  } catch (error) {
    if (mine === turn) say(error.message);
  }
}

/** Waits until the page shows what it says: what follows keeps the browser busy. */
function painted() {
  return new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve)));
}

async function probabilities({ said, runtime, session }, image) {
  const { size } = said.transform;
  const { channels, layout } = said.input;
  const shape = layout === "NCHW" ? [1, channels, size, size] : [1, size, size, channels];
  const pixels = pixelsOf(image, said.transform, said.input);
  const input = new runtime.Tensor("uint8", pixels, shape);
  const outputs = await session.run({ [session.inputNames[0]]: input });
  const found = [...outputs[session.outputNames[0]].data];
  if (!found.every(Number.isFinite)) throw new Error("The model gives no numbers: it is damaged.");
  // one output may tell two classes apart
  return found.length === 1 && said.classes === 2 ? [1 - found[0], found[0]] : found;
}

function best(found, said) {
  const order = [...found.keys()].sort((a, b) => found[b] - found[a]).slice(0, SHOWN);
  return order.map((index) => row(said.names?.[index] ?? `class ${index}`, found[index]));
}

function row(name, probability) {
  const line = parts.row.content.firstElementChild.cloneNode(true);
  line.querySelector(".name").textContent = name;
  line.querySelector(".share").textContent = `${(100 * probability).toFixed(1)} %`;
  line.querySelector(".bar span").style.width = `${100 * probability}%`;
  return line;
}

parts.file.addEventListener("change", () => {
  if (parts.file.files.length) show(parts.file.files[0]);
  parts.file.value = ""; // the same photo may be chosen again
});
document.addEventListener("paste", (event) => {
  if (event.clipboardData.files.length) show(event.clipboardData.files[0]);
});
for (const kind of ["dragenter", "dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault(); // the browser would leave this page for the photo
    parts.drop.classList.toggle("over", kind === "dragenter" || kind === "dragover");
    if (kind !== "drop") return;
    if (event.dataTransfer.files.length) show(event.dataTransfer.files[0]);
    else say("That is no file: save the photo first, and drop it from its folder.");
  });
}
