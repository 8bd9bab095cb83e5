// The view inside: what each token looked at, in all heads, and what each layer would have said.

import { lastOnly, post } from "./api.js";
import { Characters, counted, named, percent } from "./characters.js";

const $ = (id) => document.getElementById(id);
const SHOWN = 128; // tokens of a text at most

export function showAttention(page) {
  let seen = null; // tokens, and maps by layer and head: arrays of T times T bytes
  let head = [0, 0]; // layer and head of the large map
  let model = null; // that has been looked into
  const characters = new Characters($("attention-result"), showRow);
  const ask = lastOnly((body) => Promise.all([post("attention_maps", body), post("logit_lens", body)]));

  async function look() {
    page.trouble(null);
    page.fillText("attention");
    model = page.model();
    $("attention-status").textContent = "Looking …";
    try {
      const answer = await ask({ model: page.model(), on_unknown: page.onUnknown(), text: $("attention-text").value });
      if (!answer) return;
      const [{ tokens, maps }, lens] = answer;
      seen = { tokens, maps: maps.map((layer) => layer.map(decoded)) };
      if (!seen.maps[head[0]]?.[head[1]]) head = [0, 0];
      characters.clear();
      tokens.forEach((token) => characters.add(token));
      const isPart = tokens.length === Math.min(page.about.context_length, SHOWN);
      $("attention-status").textContent = `${isPart ? "The last " : ""}${counted(tokens.length)}`;
      showHeads();
      showLens(lens);
      characters.point(characters.spans.at(-1));
      keepHead();
    } catch (error) {
      $("attention-status").textContent = $("attention-list").textContent = "";
      characters.clear();
      for (const id of ["heads", "lens"]) $(id).replaceChildren();
      page.trouble(error);
    }
  }

  const weight = (row, column) => seen.maps[head[0]][head[1]][row * seen.tokens.length + column] / 255;

  function showHeads() {
    $("heads").style.gridTemplateColumns = `repeat(${seen.maps[0].length}, max-content)`;
    $("heads").replaceChildren(...seen.maps.flatMap((layer, number) => layer.map((map, index) => {
      const button = document.createElement("button");
      button.type = "button";
      button.setAttribute("aria-pressed", number === head[0] && index === head[1]);
      const canvas = document.createElement("canvas");
      draw(canvas, map);
      button.append(canvas, `layer ${number + 1}, head ${index + 1}`);
      button.addEventListener("click", () => choose(number, index));
      return button;
    })));
    showHead();
  }

  function showHead() {
    const [layer, index] = head;
    draw($("attention-map"), seen.maps[layer][index]);
    $("attention-caption").textContent = `Layer ${layer + 1}, head ${index + 1}: each row is a token, each column one that it looks at.`;
  }

  function choose(layer, index) {
    head = [layer, index];
    [...$("heads").children].forEach((button, place) => {
      button.setAttribute("aria-pressed", place === layer * seen.maps[0].length + index);
    });
    showHead();
    keepHead();
    showRow(Number(characters.chosen.dataset.index));
  }

  function keepHead() {
    page.keepText("attention", { layer: head[0] + 1, head: head[1] + 1 });
  }

  function showRow(index) {
    if (index === null) return;
    characters.spans.forEach((span, other) => {
      span.classList.add("cool");
      span.style.setProperty("--amount", other <= index ? 100 * Math.sqrt(weight(index, other)) : 0); // the root: small ones are seen
    });
    const order = seen.tokens.slice(0, index + 1).map((_, place) => [weight(index, place), place]).sort((a, b) => b[0] - a[0]);
    const largest = order.slice(0, 5).filter(([value]) => value >= 0.005);
    $("attention-list").textContent = `“${named(seen.tokens[index])}” looks at ` +
      largest.map(([value, place]) => `${place < index ? `“${named(seen.tokens[place])}” ${index - place} back` : "itself"} ` +
        `(${percent(value)})`).join(", ");
  }

  function draw(canvas, map) {
    const size = seen.tokens.length;
    canvas.width = canvas.height = size;
    const context = canvas.getContext("2d");
    context.fillStyle = getComputedStyle(document.body).getPropertyValue("--cool");
    map.forEach((value, place) => {
      context.globalAlpha = Math.sqrt(value / 255);
      context.fillRect(place % size, Math.floor(place / size), 1, 1);
    });
  }

  page.onShown("attention", (values, isNew) => {
    if (values.has("head")) head = [values.get("layer") - 1, values.get("head") - 1];
    if (isNew || model !== page.model()) look();
    else keepHead();
  });
  $("attention-form").addEventListener("submit", (event) => {
    event.preventDefault();
    look();
  });
}

function decoded(base64) {
  return Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
}

// A row for each layer, a column for each token, and in it the next token that is the most probable there.
function showLens({ tokens, layers }) {
  const table = document.createElement("table");
  const row = (name, cells) => {
    const made = table.insertRow();
    const head = document.createElement("th");
    head.scope = "row";
    head.textContent = name;
    made.append(head, ...cells);
  };
  row("token", tokens.map((token) => {
    const cell = document.createElement("th");
    cell.scope = "col";
    cell.textContent = named(token);
    return cell;
  }));
  layers.forEach((places, layer) => row(`layer ${layer + 1}`, places.map((likeliest) => {
    const cell = document.createElement("td");
    cell.className = "cool";
    cell.style.setProperty("--amount", 100 * likeliest[0].probability);
    cell.textContent = named(likeliest[0].token);
    cell.title = likeliest.map(({ token, probability }) => `${named(token)} ${percent(probability)}`).join(", ");
    return cell;
  })));
  document.getElementById("lens").replaceChildren(table);
}
