// The view of runs: the loss curve, and how the model learned to write.

import { keep } from "./address.js";
import { get, lastOnly } from "./api.js";

const $ = (id) => document.getElementById(id);
const EVERY_MS = 1500; // a run that is training is asked for again
const FRAME = { left: 56, right: 632, top: 10, bottom: 250 }; // in the units of the picture

export function showRuns(page) {
  let shown = null; // the run, with its curves
  const ask = lastOnly((name) => get(`runs/${name.split("/").map(encodeURIComponent).join("/")}`));

  async function list(values) {
    shown = null;
    try {
      const { data } = await get("runs");
      const wanted = values.get("run") ?? data.find(({ checkpoints }) => checkpoints.includes(page.model()))?.name;
      $("run").replaceChildren(...data.map(({ name }) => new Option(name, name, false, name === wanted)));
      if (data.length) await show();
      else $("runs-status").textContent = "No run yet: train a model, and it shows up here.";
    } catch (error) {
      page.trouble(error);
    }
  }

  async function show() {
    keep("runs", { run: $("run").value });
    const run = await ask($("run").value);
    if (!run || JSON.stringify(run) === JSON.stringify(shown)) return;
    shown = run;
    const { steps, values } = run.val_loss;
    const others = steps.length > 1 ? `the lowest was ${run.lowest_val_loss.toFixed(4)}` : "the only validation";
    $("runs-status").textContent = steps.length
      ? `Validation loss ${values.at(-1).toFixed(4)} after ${steps.at(-1).toLocaleString("en")} steps; ${others}.`
      : "No validation yet.";
    $("curve").setAttribute("aria-label", `Loss by step. ${$("runs-status").textContent}`);
    draw(run);
    $("film").replaceChildren(...run.samples.map(({ title, text }) => {
      const frame = document.createElement("li");
      const head = document.createElement("h4");
      head.textContent = title;
      const body = document.createElement("pre");
      body.textContent = text;
      frame.append(head, body);
      return frame;
    }));
  }

  // The values of the curves at the step that is pointed at.
  function read(event) {
    const { x } = new DOMPoint(event.clientX, event.clientY).matrixTransform($("curve").getScreenCTM().inverse());
    const place = (x - FRAME.left) / (FRAME.right - FRAME.left);
    const step = Math.round(place * Math.max(...shown.train_loss.steps, ...shown.val_loss.steps));
    const values = [["training", shown.train_loss], ["validation", shown.val_loss]].filter(([, { steps }]) => steps.length);
    $("curve-value").textContent = values.map(([name, { steps, values }]) => {
      const nearest = steps.reduce((best, other, index) => (Math.abs(other - step) < Math.abs(steps[best] - step) ? index : best), 0);
      return `${name} loss ${values[nearest].toFixed(4)} at step ${steps[nearest].toLocaleString("en")}`;
    }).join(", ");
  }

  $("curve").addEventListener("pointermove", (event) => shown && read(event));
  setInterval(() => $("runs").hidden || document.hidden || !shown || show().catch(page.trouble), EVERY_MS);
  $("run").addEventListener("change", () => show().catch(page.trouble));
  page.onShown("runs", list);
}

function draw({ train_loss, val_loss }) {
  const values = [...train_loss.values, ...val_loss.values];
  if (!values.length) return $("curve").replaceChildren();
  const most = Math.max(...train_loss.steps, ...val_loss.steps, 1);
  const low = Math.min(...values);
  const high = Math.max(...values, low + 0.01);
  const x = (step) => FRAME.left + ((FRAME.right - FRAME.left) * step) / most;
  const y = (value) => FRAME.bottom - ((FRAME.bottom - FRAME.top) * (value - low)) / (high - low);
  const parts = [];
  for (const value of ticks(low, high)) {
    parts.push(element("line", { x1: FRAME.left, x2: FRAME.right, y1: y(value), y2: y(value) }));
    parts.push(element("text", { x: FRAME.left - 6, y: y(value) + 4, "text-anchor": "end" }, value.toFixed(2)));
  }
  for (let tick = 0; tick <= 4; tick++) {
    const step = Math.round((most * tick) / 4);
    const anchor = { 0: "start", 4: "end" }[tick] ?? "middle";
    parts.push(element("text", { x: x(step), y: FRAME.bottom + 20, "text-anchor": anchor }, step.toLocaleString("en")));
  }
  for (const [name, measured] of [["train", train_loss], ["val", val_loss]]) {
    const points = measured.steps.map((step, index) => `${x(step)},${y(measured.values[index])}`).join(" ");
    parts.push(element("polyline", { class: name, points }));
  }
  val_loss.steps.forEach((step, index) => parts.push(element("circle", { cx: x(step), cy: y(val_loss.values[index]), r: 3 })));
  return $("curve").replaceChildren(...parts);
}

// Round values from low to high, three to seven.
function ticks(low, high) {
  const power = 10 ** Math.floor(Math.log10((high - low) / 4));
  const distance = power * [1, 2, 5, 10].find((factor) => factor * power * 7 >= high - low);
  const first = Math.ceil(low / distance);
  return Array.from({ length: Math.floor(high / distance) - first + 1 }, (_, index) => (first + index) * distance);
}

function element(name, attributes, text = "") {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.textContent = text;
  return made;
}
