// The view that writes: text streams in, and every token shows what it was drawn from.

import { post, stream } from "./api.js";
import { Characters, named, parts, percent, showBars } from "./characters.js";

const $ = (id) => document.getElementById(id);
const SHOWN = 12; // of the likeliest tokens
const READ = 60_000; // characters of a text that are sent: the model sees only its end
const FOLDED = 400; // characters of a long prompt that stay visible above the text

function isVisible(element) {
  const { top, bottom } = element.getBoundingClientRect();
  return bottom > 0 && top < innerHeight;
}

export function showWriting(page) {
  let drawn = []; // for each token, what it was drawn from
  let text = ""; // prompt and all
  let writing = null; // what stops it
  const characters = new Characters($("text"), (index) => showWhy(drawn[index]));

  const number = (id) => ($(id).value === "" ? null : Number($(id).value));

  async function write() {
    writing?.abort();
    const mine = new AbortController();
    writing = mine;
    page.trouble(null);
    $("generate").textContent = "Generate again";
    $("stop").disabled = false;
    $("continue").disabled = true;
    $("write-status").textContent = "Writing …";
    let made = 0;
    let seed = "";
    let ended = "";
    try {
      const body = {
        model: page.model(), prompt: text.slice(-READ), on_unknown: page.onUnknown(), max_tokens: number("length"),
        temperature: number("temperature"), top_k: number("top-k"), top_p: number("top-p"), seed: number("seed"),
        logprobs: SHOWN, processed_logprobs: true,
      };
      for await (const { choices: [choice] } of stream(body, mine.signal)) {
        if (writing !== mine) return;
        const { tokens, token_logprobs, top_logprobs, text_offset } = choice.logprobs;
        seed = `, seed ${choice.seed}`;
        if (choice.finish_reason === "stop") ended = ", where the model ended it";
        text += choice.text;
        made += tokens.length;
        const follows = isVisible($("text").lastElementChild);
        parts(choice.text, text_offset).forEach((part, index) => {
          drawn.push({ token: tokens[index], logprob: token_logprobs[index], top: top_logprobs[index] });
          characters.add(part);
        });
        if (follows) $("text").lastElementChild.scrollIntoView({ block: "nearest" });
      }
      $("write-status").textContent = `${made} tokens${ended}${seed}`;
    } catch (error) {
      if (writing === mine) $("write-status").textContent = error.name === "AbortError" ? `Stopped after ${made} tokens${seed}` : "";
      page.trouble(error);
    } finally {
      if (writing === mine) {
        writing = null;
        const wasFocused = document.activeElement === $("stop");
        $("stop").disabled = true;
        $("continue").disabled = !drawn.length;
        if (wasFocused) $("continue").focus();
      }
    }
  }

  function showWhy({ token, logprob, top }) {
    $("why").textContent = `“${named(token)}” was drawn with ${percent(Math.exp(logprob))}, from:`;
    showBars($("why-bars"), top, token, logprob);
  }

  // The prompt as the model reads it: without the characters that it does not know, or with others in their place.
  async function read(prompt) {
    if (page.onUnknown() === "error" || !prompt) return prompt;
    const body = { model: page.model(), prompt: prompt.slice(-READ), on_unknown: page.onUnknown(), max_tokens: 0, echo: true };
    return (await post("v1/completions", body)).choices[0].text;
  }

  $("write-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    try {
      text = await read($("prompt").value);
    } catch (error) {
      page.trouble(error);
      return;
    }
    drawn = [];
    characters.clear();
    $("why").textContent = "";
    $("why-bars").replaceChildren();
    characters.addPlain(text.length > 2 * FOLDED ? `… ${text.slice(-FOLDED)}` : text);
    write();
  });
  $("prompt").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) $("write-form").requestSubmit();
  });
  $("stop").addEventListener("click", () => writing?.abort());
  $("model").addEventListener("change", () => writing?.abort());
  $("continue").addEventListener("click", write);
}
