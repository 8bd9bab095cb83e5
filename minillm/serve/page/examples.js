// Examples: prompts to click.

import { named } from "./characters.js";

const OF_SHAKESPEARE = ["ROMEO:\n", "First Citizen:\nBefore we", "To be, or not to be"];
const MOST = 3;

export function isOfShakespeare(corpus) {
  return /^(tinyshakespeare|shakespeare|other_plays)$/.test(corpus);
}

// Prompts for a model: its own, and how lines begin in a text that it has written.
export function examples({ corpus, default_prompt }, text = "") {
  if (isOfShakespeare(corpus)) return OF_SHAKESPEARE;
  const begins = text.split("\n").map((line) => line.trim().split(" ").slice(0, 2).join(" ").slice(0, 30));
  return [...new Set([default_prompt, ...begins.filter((begin) => begin)])].slice(0, MOST);
}

// A button for each; `choose` is called with its prompt.
export function showExamples(prompts, choose) {
  const buttons = prompts.map((prompt) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = prompt.trim() || named(prompt) || "an empty prompt";
    button.addEventListener("click", () => choose(prompt));
    return button;
  });
  document.getElementById("examples").replaceChildren(...buttons);
}
