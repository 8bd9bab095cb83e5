// The view of attention: what each character looked at.

import { lastOnly, post } from "./api.js";
import { Characters, named, percent } from "./characters.js";

const $ = (id) => document.getElementById(id);

export function showAttention(page) {
  let seen = null; // tokens and weights
  const characters = new Characters($("attention-result"), showRow);
  const ask = lastOnly((body) => post("attention", body));

  function offer(id, count) {
    const before = Number($(id).value || 0);
    $(id).replaceChildren(...Array.from({ length: count }, (_, number) => new Option(number + 1, number)));
    $(id).value = Math.min(before, count - 1);
  }

  async function look() {
    page.trouble(null);
    $("attention-status").textContent = "Looking …";
    try {
      const body = { model: page.model(), on_unknown: page.onUnknown(), text: $("attention-text").value };
      const answer = await ask({ ...body, layer: Number($("layer").value), head: Number($("head").value) });
      if (!answer) return;
      seen = answer;
      const place = characters.chosen?.dataset.index ?? -1; // which stays, for another head
      characters.clear();
      seen.tokens.forEach((token) => characters.add(token));
      $("attention-list").textContent = "";
      const { length } = seen.tokens;
      $("attention-status").textContent = length < page.about.context_length ? `${length} tokens` :
        `The last ${length} tokens: the model sees no more`;
      draw();
      (characters.spans.at(place) ?? characters.spans.at(-1)).click();
    } catch (error) {
      $("attention-status").textContent = "";
      page.trouble(error);
    }
  }

  function showRow(index) {
    const row = seen.weights[index];
    characters.spans.forEach((span, other) => {
      span.classList.add("cool");
      span.style.setProperty("--amount", 100 * Math.sqrt(row[other] ?? 0)); // the root: so that small ones are seen
    });
    const order = row.map((weight, place) => [weight, place]).sort((a, b) => b[0] - a[0]);
    const largest = order.slice(0, 5).filter(([weight]) => weight >= 0.005);
    $("attention-list").textContent = `“${named(seen.tokens[index])}” looks at ` +
      largest.map(([weight, place]) => `${place < index ? `“${named(seen.tokens[place])}” ${index - place} back` : "itself"} ` +
        `(${percent(weight)})`).join(", ");
  }

  function draw() {
    const size = seen.tokens.length;
    const canvas = $("attention-map");
    canvas.width = canvas.height = size;
    const context = canvas.getContext("2d");
    context.fillStyle = getComputedStyle(document.body).getPropertyValue("--cool");
    seen.weights.forEach((row, y) => row.forEach((weight, x) => {
      context.globalAlpha = Math.sqrt(weight);
      context.fillRect(x, y, 1, 1);
    }));
  }

  document.addEventListener("model", () => {
    offer("layer", page.about.num_layers);
    offer("head", page.about.num_heads);
    if (seen && !$("attention").hidden) look();
  });
  $("layer").addEventListener("change", look);
  $("head").addEventListener("change", look);
  $("attention-form").addEventListener("submit", (event) => {
    event.preventDefault();
    look();
  });
}
