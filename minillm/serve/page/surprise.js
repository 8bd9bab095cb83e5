// The view that reads: every character coloured by how little it was expected.

import { lastOnly, post } from "./api.js";
import { Characters, named, parts, showBars } from "./characters.js";

const $ = (id) => document.getElementById(id);
const MOST = 8; // bits of the strongest colour
const SHOWN = 8; // of the likeliest tokens

export function showSurprise(page) {
  let read = null; // the log-probabilities of the text
  let model = null; // that has read it
  const characters = new Characters($("surprise-result"), showExpected);
  const ask = lastOnly((body) => post("v1/completions", body));

  async function measure() {
    page.trouble(null);
    page.fillText("surprise");
    page.keepText("surprise");
    model = page.model();
    $("surprise-status").textContent = "Reading …";
    try {
      const body = { model: page.model(), on_unknown: page.onUnknown(), prompt: $("surprise-text").value, max_tokens: 0, echo: true, logprobs: SHOWN };
      const answer = await ask(body);
      if (!answer) return;
      const { text, logprobs } = answer.choices[0]; // without what the model does not know, perhaps
      read = logprobs;
      characters.clear();
      showExpected(null);
      let bits = 0;
      let unread = 0; // characters that nothing comes before
      parts(text, read.text_offset).forEach((part, index) => {
        const span = characters.add(part);
        if (read.token_logprobs[index] === null) {
          unread += [...part].length;
          return;
        }
        const surprise = -read.token_logprobs[index] / Math.LN2;
        bits += surprise;
        span.classList.add("warm");
        span.style.setProperty("--amount", Math.min(100, (100 * surprise) / MOST));
      });
      const count = [...text].length - unread;
      $("surprise-status").textContent = count
        ? `${bits.toFixed(1)} bits for ${count} characters: ${(bits / count).toFixed(3)} bits per character`
        : "Nothing comes before the first token: write more";
    } catch (error) {
      $("surprise-status").textContent = "";
      characters.clear();
      showExpected(null);
      page.trouble(error);
    }
  }

  function showExpected(index) {
    if (index === null) {
      $("expected").textContent = "";
      $("expected-bars").replaceChildren();
      return;
    }
    const logprob = read.token_logprobs[index];
    const name = `“${named(read.tokens[index])}”`;
    if (logprob === null) {
      $("expected").textContent = `${name}: nothing comes before it`;
      $("expected-bars").replaceChildren();
    } else {
      $("expected").textContent = `${name}: ${(-logprob / Math.LN2).toFixed(2)} bits, where these were expected:`;
      const likeliest = Object.entries(read.top_logprobs[index]).map(([token, value]) => [token, Math.exp(value)]);
      showBars($("expected-bars"), likeliest.sort(([, a], [, b]) => b - a), read.tokens[index], Math.exp(logprob));
    }
  }

  $("surprise-form").addEventListener("submit", (event) => {
    event.preventDefault();
    measure();
  });
  $("expected-close").addEventListener("click", () => characters.release());
  page.onShown("surprise", (_, isNew) => (isNew || model !== page.model() ? measure() : page.keepText("surprise")));
}
