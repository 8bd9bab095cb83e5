// The view that writes: text streams in, every token shows what it was drawn from, and another one can be chosen there.

import { keep, state } from "./address.js";
import { post, stream } from "./api.js";
import { Branches } from "./branches.js";
import { Characters, named, parts, percent, showBars } from "./characters.js";
import { command } from "./command.js";
import { Copies } from "./copies.js";
import { examples, showExamples } from "./examples.js";
import { shares } from "./sampling.js";

const $ = (id) => document.getElementById(id);
const SCORES = { most: 127, large: 20 }; // log-probabilities by place: all of characters, the likeliest of byte pairs
const READ = 60_000; // characters of a text that are sent: the model sees only its end
const FOLDED = 400; // characters of a long prompt that stay visible above the text
const LINKED = 4000; // characters of a prompt in an address

const number = (id) => ($(id).value === "" ? null : Number($(id).value));
const isVisible = ({ top, bottom }) => bottom > 0 && top < innerHeight;

export function showWriting(page) {
  const branches = new Branches(); // texts, each with its tokens and what they were drawn from
  let writing = null; // what stops it
  let place = null; // the token that is looked at
  const characters = new Characters($("text"), (index) => showWhy(index));
  const copies = new Copies(() => characters.spans);

  const sampling = () => ({
    temperature: number("temperature"),
    top_k: $("top-k").value === $("top-k").max ? null : number("top-k"),
    top_p: number("top-p") === 1 ? null : number("top-p"),
  });

  // Generate up to `count` tokens after the text of the branch that is shown, and follow it if its end is in sight.
  async function write(count, seed, isFollowed = true) {
    writing?.abort();
    const mine = new AbortController();
    writing = mine;
    const branch = branches.shown;
    page.trouble(null);
    for (const [id, off] of [["stop", false], ["continue", true]]) $(id).disabled = off;
    $("write-status").textContent = "Writing …";
    let made = 0;
    let ended = "";
    branch.request = { model: page.model(), prompt: branch.text.slice(-LINKED), seed, tokens: count, ...sampling() };
    describe();
    try {
      const scores = page.about.vocab_size <= SCORES.most ? page.about.vocab_size : SCORES.large;
      const body = {
        model: page.model(), prompt: branch.text.slice(-READ), on_unknown: page.onUnknown(), max_tokens: count, seed,
        ...sampling(), logprobs: scores,
      };
      for await (const { choices: [choice] } of stream(body, mine.signal)) {
        if (writing !== mine) return;
        const { tokens, top_logprobs, text_offset } = choice.logprobs;
        if (choice.finish_reason === "stop") ended = ", where the model ended it";
        made += tokens.length;
        const follows = isFollowed && isVisible($("text").lastElementChild.getBoundingClientRect());
        parts(choice.text, text_offset).forEach((part, index) => {
          branch.tokens.push({ part, token: tokens[index], scores: top_logprobs[index] });
          characters.add(part);
        });
        if (follows) $("text").lastElementChild.scrollIntoView({ block: "nearest" });
      }
      $("write-status").textContent = `${made} tokens${ended}, seed ${seed}`;
    } catch (error) {
      const stopped = error.name === "AbortError" ? `Stopped after ${made} tokens, seed ${seed}` : "";
      if (writing === mine) $("write-status").textContent = stopped;
      page.trouble(error);
    } finally {
      if (writing === mine) end();
    }
  }

  function end() {
    writing = null;
    const wasFocused = document.activeElement === $("stop");
    $("stop").disabled = true;
    $("continue").disabled = !branches.shown.tokens.length;
    if (wasFocused) $("continue").focus();
    copies.find(page.model(), branches.shown);
    if (branches.count === 1) showExamples(examples(page.about, branches.shown.text), tryExample);
  }

  // Show the branch that is chosen.
  function show() {
    const { prompt, tokens } = branches.shown;
    characters.clear();
    copies.clear();
    place = null;
    $("why").textContent = $("why-copy").textContent = "";
    $("why-bars").replaceChildren();
    characters.addPlain(prompt.length > 2 * FOLDED ? `… ${prompt.slice(-FOLDED)}` : prompt);
    for (const { part, isChosen } of tokens) characters.add(part).classList.toggle("by-hand", Boolean(isChosen));
    describe();
  }

  // What belongs to the branch: the buttons, the address and the command.
  function describe() {
    const { request } = branches.shown;
    $("back").disabled = !branches.has(-1);
    $("forward").disabled = !branches.has(1);
    $("branch-status").textContent = branches.count > 1 ? `Text ${branches.number} of ${branches.count}` : "";
    $("command").textContent = request ? command(request) : "";
    if (request && !$("write").hidden) keep("write", request);
  }

  function showWhy(index) {
    place = index;
    const { token, scores } = branches.shown.tokens[index];
    const drawn = shares(scores, sampling());
    const share = drawn.find(([other]) => other === token)?.[1] ?? 0;
    const known = drawn.length < page.about.vocab_size && page.about.vocab_size > SCORES.most ? "the likeliest tokens" : "these";
    $("why").textContent = `“${named(token)}” has ${percent(share)} of ${known}:`;
    showBars($("why-bars"), drawn.slice(0, SCORES.large), token, share, choose);
    $("why-copy").textContent = copies.at(index);
  }

  // Go on from a place with another token: the same choice always writes the same text.
  function choose(token) {
    writing?.abort();
    const { request } = branches.shown;
    const left = request.tokens - place - 1;
    branches.fork(place, token);
    show();
    write(Math.max(left, 1), request.seed);
  }

  // The prompt as the model reads it: without the characters that it does not know, or with others in their place.
  async function read(prompt) {
    if (page.onUnknown() === "error" || !prompt) return prompt;
    const body = { model: page.model(), prompt: prompt.slice(-READ), on_unknown: page.onUnknown(), max_tokens: 0, echo: true };
    return (await post("v1/completions", body)).choices[0].text;
  }

  async function begin() {
    writing?.abort();
    try {
      branches.begin(await read($("prompt").value));
    } catch (error) {
      page.trouble(error);
      return;
    }
    show();
    const seed = number("seed") ?? crypto.getRandomValues(new Uint32Array(1))[0];
    await write(number("length"), seed);
  }

  function showSettings() {
    const { temperature, top_k, top_p } = sampling();
    $("temperature-value").textContent = temperature === 0 ? "greedy" : temperature.toFixed(2);
    $("top-k-value").textContent = top_k ?? "all";
    $("top-p-value").textContent = top_p ?? "all";
    if (place !== null) showWhy(place);
  }

  // The first text: that of the address, or of the model's own prompt with seed 1.
  function beginWithModel() {
    const { corpus, vocab_size, num_parameters, lowest_val_loss, tokenizer_class } = page.about;
    $("top-k").max = $("top-k").value = Math.min(vocab_size, 200);
    const token = tokenizer_class === "CharTokenizer" ? "character" : "token";
    const trained = corpus ? `, trained on “${corpus}”` : "";
    const loss = lowest_val_loss === null ? "" : ` to a validation loss of ${lowest_val_loss.toFixed(3)} nats per token`;
    $("intro").textContent = `A language model of ${num_parameters.toLocaleString("en")} parameters${trained}${loss}. ` +
      `It writes ${token} by ${token}, each drawn from the probabilities that it has computed: click one to see them.`;
    const prompts = examples(page.about);
    showExamples(prompts, tryExample);
    const { view, values } = state();
    const isLinked = view === "write" && !branches.count && values.get("model") === page.model();
    const given = isLinked ? values : new URLSearchParams();
    $("prompt").value = given.get("prompt") ?? (branches.count ? $("prompt").value : prompts[0]);
    if (given.size) for (const [id, name] of [["seed", "seed"], ["length", "tokens"]]) $(id).value = given.get(name) ?? "";
    if (given.has("temperature")) $("temperature").value = given.get("temperature");
    if (given.has("top_k")) $("top-k").value = given.get("top_k");
    if (given.has("top_p")) $("top-p").value = given.get("top_p");
    showSettings();
    if (given.size) begin();
    else writeFirst();
  }

  function writeFirst() {
    if ($("write").hidden || branches.count || !page.about) return;
    branches.begin($("prompt").value);
    show();
    write(number("length"), 1, false);
  }

  function tryExample(prompt) {
    $("prompt").value = prompt;
    begin();
  }

  function move(by) {
    writing?.abort();
    branches.move(by);
    show();
    copies.find(page.model(), branches.shown);
  }

  function download() {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([branches.shown.text], { type: "text/plain" }));
    link.download = "text.txt";
    link.click();
    URL.revokeObjectURL(link.href);
  }

  $("write-form").addEventListener("submit", (event) => {
    event.preventDefault();
    begin();
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") writing?.abort();
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && !$("write").hidden) $("write-form").requestSubmit();
  });
  for (const id of ["temperature", "top-k", "top-p"]) $(id).addEventListener("input", showSettings);
  $("stop").addEventListener("click", () => writing?.abort());
  $("model").addEventListener("change", () => writing?.abort());
  $("continue").addEventListener("click", () => write(number("length"), branches.shown.request.seed));
  $("die").addEventListener("click", () => {
    $("seed").value = crypto.getRandomValues(new Uint32Array(1))[0];
    begin();
  });
  $("back").addEventListener("click", () => move(-1));
  $("forward").addEventListener("click", () => move(1));
  $("copy").addEventListener("click", () => navigator.clipboard.writeText(branches.shown.text).catch(page.trouble));
  $("copy-link").addEventListener("click", () => navigator.clipboard.writeText(location.href).catch(page.trouble));
  $("download").addEventListener("click", download);
  for (const view of ["surprise", "attention"]) $(`to-${view}`).addEventListener("click", () => page.open(view, branches.shown.text));
  document.addEventListener("model", beginWithModel);
  document.addEventListener("view", () => (branches.count ? describe() : writeFirst()));
}
