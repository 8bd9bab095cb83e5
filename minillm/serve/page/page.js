// The page: which view is shown, which model is talked to.

import { keep, state } from "./address.js";
import { get, lastOnly, Refused } from "./api.js";
import { showAttention } from "./attention.js";
import { showRuns } from "./runs.js";
import { showSurprise } from "./surprise.js";
import { showWriting } from "./write.js";

const $ = (id) => document.getElementById(id);
const views = ["write", "surprise", "attention", "runs"];

// What goes wrong is said where everybody sees and hears it.
export function trouble(error) {
  if (error?.name === "AbortError") return;
  $("trouble").hidden = !error;
  $("trouble").textContent = error ? error.message.replace("on_unknown", "“Unknown characters”, under More,") : "";
  if (error && !(error instanceof Refused)) throw error;
}

const LINKED = 4000; // characters of a text in an address

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
  keepText: (view) => keep(view, { model: page.model(), text: $(`${view}-text`).value.slice(-LINKED) }),
};

const ask = lastOnly((name) => get(`v1/models/${name.split("/").map(encodeURIComponent).join("/")}`));

async function chooseModel() {
  trouble(null);
  try {
    const about = await ask($("model").value);
    if (!about) return;
    page.about = about;
    const { num_layers, num_heads, embed_dim, context_length, vocab_size } = page.about;
    $("about").textContent =
      `layers: ${num_layers}, heads: ${num_heads}, channels: ${embed_dim}, context: ${context_length}, ` +
      `vocabulary: ${vocab_size}`;
    document.dispatchEvent(new Event("model"));
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
  document.dispatchEvent(new CustomEvent("view", { detail: view }));
}

async function begin() {
  showWriting(page);
  showSurprise(page);
  showAttention(page);
  showRuns(page);
  addEventListener("hashchange", chooseView);
  $("model").addEventListener("change", chooseModel);
  chooseView();
  try {
    const { data } = await get("v1/models");
    const { view, values } = state();
    const wanted = values.get("model");
    $("model").replaceChildren(...data.map(({ id }) => new Option(id, id, false, id === wanted)));
    await chooseModel();
    if (["surprise", "attention"].includes(view) && values.has("text")) page.open(view, values.get("text"));
  } catch (error) {
    trouble(error);
  }
}

begin();
