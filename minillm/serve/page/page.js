// The page: which view is shown, which model is talked to.

import { isLink, keep, LINKED, state } from "./address.js";
import { get, lastOnly, Refused } from "./api.js";
import { showAttention } from "./attention.js";
import { isOfShakespeare } from "./examples.js";
import { showRuns } from "./runs.js";
import { showSurprise } from "./surprise.js";
import { showWriting } from "./write.js";

const $ = (id) => document.getElementById(id);
const views = ["write", "surprise", "attention", "runs"];

// What goes wrong is said where everybody sees and hears it.
export function trouble(error) {
  if (error?.name === "AbortError") return;
  $("trouble").hidden = !error;
  $("trouble").textContent = error ? error.message.replace("on_unknown", "“Unknown characters” (Write, More)") : "";
  if (error && !(error instanceof Refused)) throw error;
}

const page = {
  model: () => $("model").value,
  onUnknown: () => $("on-unknown").value,
  about: null, // the model
  trouble,
  // Show a text in a view that reads.
  open(view, text) {
    $(`${view}-text`).value = text;
    location.hash = view;
    $(`${view}-form`).requestSubmit();
  },
  keepText: (view, more = {}) => keep(view, { model: page.model(), text: $(`${view}-text`).value.slice(-LINKED), ...more }),
  // The text that a view reads at first is Shakespeare's: another model reads what it has written.
  fillText(view) {
    const field = $(`${view}-text`);
    if (field.value === field.defaultValue && !isOfShakespeare(page.about.corpus)) field.value = page.written() || field.value;
  },
  // Call a function when a view is shown, and when there is a model or a link to show: with the state in the address, and
  // whether it is a new one.
  onShown(view, run) {
    document.addEventListener("view", () => page.about && !$(view).hidden && run(state().values, false));
    document.addEventListener("model", ({ detail }) => $(view).hidden || run(detail, true));
  },
  written: () => "", // what the model has written
};

const ask = lastOnly((name) => get(`v1/models/${name.split("/").map(encodeURIComponent).join("/")}`));

async function chooseModel(wanted = new URLSearchParams()) {
  trouble(null);
  try {
    const about = await ask($("model").value);
    if (!about) return;
    page.about = about;
    const { num_layers, num_heads, embed_dim, context_length, vocab_size } = page.about;
    $("about").textContent =
      `layers: ${num_layers}, heads: ${num_heads}, channels: ${embed_dim}, context: ${context_length}, ` +
      `vocabulary: ${vocab_size}`;
    document.dispatchEvent(new CustomEvent("model", { detail: wanted }));
  } catch (error) {
    trouble(error);
  }
}

function chooseView(event) {
  const wanted = state().view;
  const view = views.includes(wanted) ? wanted : "write";
  for (const name of views) $(name).hidden = name !== view;
  for (const link of document.querySelectorAll("nav a")) {
    if (link.hash === `#${view}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = `${$(`${view}-title`).textContent} · MiniLLM`;
  trouble(null);
  if (event) $("main").focus({ preventScroll: true });
  scrollTo(0, 0);
  if (!isLink()) document.dispatchEvent(new Event("view"));
}

// Show what a link names; another view without a state keeps its own.
async function follow() {
  const { view, values } = state();
  const wanted = isLink() ? values : new URLSearchParams();
  if (wanted.has("text") && ["surprise", "attention"].includes(view)) $(`${view}-text`).value = wanted.get("text");
  const model = wanted.get("model");
  const isKnown = model === null || [...$("model").options].some(({ value }) => value === model);
  if (isKnown && model !== null) $("model").value = model;
  if (page.about === null || wanted.size) await chooseModel(wanted);
  if (!isKnown) trouble(new Refused(`there is no model “${model}” here: this is what another one writes`));
}

async function begin() {
  page.written = showWriting(page);
  showSurprise(page);
  showAttention(page);
  showRuns(page);
  addEventListener("hashchange", (event) => {
    chooseView(event);
    if (isLink()) follow();
  });
  $("model").addEventListener("change", () => chooseModel());
  chooseView();
  try {
    const { data } = await get("v1/models");
    $("model").replaceChildren(...data.map(({ id }) => new Option(id)));
    await follow();
  } catch (error) {
    trouble(error);
  }
}

begin();
