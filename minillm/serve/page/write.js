// The view that writes: text streams in, every token shows what it was drawn from, and another one can be chosen there.

import { keep, LINKED, query, state } from "./address.js";
import { post, stream } from "./api.js";
import { Branches } from "./branches.js";
import { Characters, counted, named, parts, percent, showBars } from "./characters.js";
import { command } from "./command.js";
import { Copies } from "./copies.js";
import { examples, showExamples } from "./examples.js";
import { shares } from "./sampling.js";
import { drawSeed, number, sampling, setSettings, showSettings } from "./settings.js";
import { copy, download } from "./share.js";

const $ = (id) => document.getElementById(id);
const SCORES = { most: 127, large: 20 }; // log-probabilities by place: all of characters, the likeliest of byte pairs
const READ = 60_000; // characters of a text that are sent: the model sees only its end
const FOLDED = 400; // characters of a long prompt that stay visible above the text

const isVisible = ({ top, bottom }) => bottom > 0 && top < innerHeight;

export function showWriting(page) {
  const branches = new Branches(); // texts, each with its tokens and what they were drawn from
  let writing = null; // what stops it
  let place = null; // the token that is looked at
  let offered = []; // examples of prompts
  const characters = new Characters($("text"), (index) => showWhy(index));
  const copies = new Copies(() => characters.spans);

  // Generate up to `count` tokens after the text of the branch that is shown, and follow it if its end is in sight.
  async function write(count, seed, isFollowed = true) {
    writing?.abort();
    const mine = new AbortController();
    writing = mine;
    const branch = branches.shown;
    if (isFollowed) page.trouble(null);
    $("write-status").textContent = "Writing …";
    let made = 0;
    const drawn = sampling();
    branch.request = { model: page.model(), prompt: branch.text.slice(-LINKED), seed, tokens: count, ...drawn };
    describe(isFollowed);
    try {
      const scores = page.about.vocab_size <= SCORES.most ? page.about.vocab_size : SCORES.large;
      const body = {
        model: page.model(), prompt: branch.text.slice(-READ), on_unknown: page.onUnknown(), max_tokens: count, seed,
        ...drawn, logprobs: scores,
      };
      for await (const { choices: [choice] } of stream(body, mine.signal)) {
        if (writing !== mine) return;
        const { tokens, top_logprobs, text_offset } = choice.logprobs;
        if (choice.finish_reason === "stop") branch.isEnded = true;
        made += tokens.length;
        const follows = isFollowed && isVisible($("text").lastElementChild.getBoundingClientRect());
        parts(choice.text, text_offset).forEach((part, index) => {
          branch.tokens.push({ part, token: tokens[index], scores: top_logprobs[index], drawn });
          characters.add(part);
        });
        if (follows) $("text").lastElementChild.scrollIntoView({ block: "nearest" });
      }
      branch.status = `${counted(made)}${branch.isEnded ? ", where the model ended it" : ""}, seed ${seed}`;
    } catch (error) {
      const isStopped = error.name === "AbortError";
      branch.status = isStopped ? `Stopped after ${counted(made)}, seed ${seed}` : "";
      if (isStopped && made) branch.request.tokens = made; // so that the link and the command write the same
      if (!isStopped && !branch.tokens.length && branches.shown === branch) dropFailed();
      page.trouble(error);
    } finally {
      if (writing === mine) end();
    }
  }

  function end() {
    writing = null;
    const wasFocused = document.activeElement === $("stop");
    describe();
    if (wasFocused) $("continue").focus();
    copies.find(branches.shown);
    if (branches.count === 1) offer(examples(page.about, branches.shown.text));
  }

  function dropFailed() {
    branches.drop();
    show();
  }

  // Show the branch that is chosen.
  function show() {
    const { prompt, tokens } = branches.shown;
    characters.clear();
    copies.clear();
    showWhy(null);
    characters.addPlain(prompt.length > 2 * FOLDED ? `… ${prompt.slice(-FOLDED)}` : prompt);
    for (const { part, isChosen } of tokens) characters.add(part).classList.toggle("by-hand", Boolean(isChosen));
    describe();
  }

  // What belongs to the branch: the buttons, the address and the command.
  function describe(isNew = false) {
    const { request, status, tokens, isEnded } = branches.shown;
    $("stop").disabled = !writing;
    $("continue").disabled = Boolean(writing) || isEnded || !tokens.length;
    if (!writing) $("write-status").textContent = status;
    $("back").disabled = !branches.has(-1);
    $("forward").disabled = !branches.has(1);
    $("branch-status").textContent = branches.count > 1 ? `Text ${branches.number} of ${branches.count}` : "";
    $("command").textContent = request ? command(request) : "";
    if (request && !$("write").hidden) keep("write", request, isNew);
  }

  function showWhy(index) {
    place = index;
    if (index === null) {
      $("why").textContent = $("why-copy").textContent = "";
      $("why-bars").replaceChildren();
      return;
    }
    const { token, scores, drawn } = branches.shown.tokens[index];
    const now = sampling();
    const all = shares(scores, now);
    const shareIn = (some) => some.find(([other]) => other === token)?.[1] ?? 0;
    const isPart = all.length < page.about.vocab_size && page.about.vocab_size > SCORES.most;
    const before = JSON.stringify(drawn) === JSON.stringify(now) ? "" : ` With these settings: ${percent(shareIn(all))}.`;
    $("why").textContent = `Drawn at random: “${named(token)}” had ${percent(shareIn(shares(scores, drawn)))}` +
      `${isPart ? ` (of the ${SCORES.large} likeliest)` : ""}.${before}`;
    showBars($("why-bars"), all.slice(0, SCORES.large), token, shareIn(all), choose);
    $("why-copy").textContent = copies.at(index);
  }

  // Go on from a place with another token: the same choice always writes the same text.
  function choose(token) {
    writing?.abort();
    const { request } = branches.shown;
    const left = request.tokens - place - 1;
    const forked = place;
    branches.fork(place, token);
    show();
    characters.spans[forked].click();
    characters.spans[forked].focus({ preventScroll: true });
    write(Math.max(left, 1), request.seed);
  }

  // The prompt as the model reads it: without the characters that it does not know, or with others in their place.
  async function read(prompt) {
    if (page.onUnknown() === "error" || !prompt) return prompt;
    const body = { model: page.model(), prompt: prompt.slice(-READ), on_unknown: page.onUnknown(), max_tokens: 0, echo: true };
    return (await post("v1/completions", body)).choices[0].text;
  }

  async function begin(isFollowed = true) {
    writing?.abort();
    try {
      branches.begin(await read($("prompt").value));
    } catch (error) {
      page.trouble(error);
      return;
    }
    show();
    if (number("seed") === null) drawSeed();
    await write(number("length"), number("seed"), isFollowed);
  }

  // The first text: that of the address, or of the model's own prompt with seed 1.
  function beginWithModel({ detail }) {
    const { corpus, vocab_size, num_parameters, lowest_val_loss, tokenizer_class } = page.about;
    const token = tokenizer_class === "CharTokenizer" ? "character" : "token";
    const trained = corpus ? `, trained on “${corpus}”` : "";
    const loss = lowest_val_loss === null ? "" : ` to a validation loss of ${lowest_val_loss.toFixed(3)} nats per ${token}`;
    $("intro").textContent = `A language model of ${num_parameters.toLocaleString("en")} parameters${trained}${loss}. ` +
      `It writes ${token} by ${token}, each drawn from the probabilities that it has computed: click one to see them.`;
    const given = state().view === "write" ? detail : new URLSearchParams();
    setSettings(vocab_size, given);
    if (given.size) $("prompt").value = given.get("prompt") ?? "";
    else if (!branches.count || offered.includes($("prompt").value)) $("prompt").value = examples(page.about)[0];
    offer(examples(page.about));
    writing?.abort();
    writing = null;
    if (branches.select((request) => query(request) === given.toString())) move(0);
    else {
      branches.clear(); // of another model, perhaps
      writeFirst();
    }
  }

  function writeFirst() {
    if ($("write").hidden || branches.count || !page.about) return;
    begin(false);
  }

  function offer(prompts) {
    offered = prompts;
    showExamples(prompts, tryExample);
  }

  function tryExample(prompt) {
    $("prompt").value = prompt;
    begin();
  }

  function move(by) {
    writing?.abort();
    branches.move(by);
    show();
    copies.find(branches.shown);
  }

  async function copied(text, done) {
    try {
      await copy(text);
      $("branch-status").textContent = done;
    } catch (error) {
      page.trouble(error);
    }
  }

  $("write-form").addEventListener("submit", (event) => {
    event.preventDefault();
    begin();
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") writing?.abort();
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && !$("write").hidden) $("write-form").requestSubmit();
  });
  for (const id of ["temperature", "top-k", "top-p"]) {
    $(id).addEventListener("input", () => {
      showSettings();
      if (place !== null) showWhy(place);
    });
  }
  $("length").addEventListener("invalid", () => ($("more").open = true));
  $("why-close").addEventListener("click", () => characters.release());
  $("stop").addEventListener("click", () => writing?.abort());
  $("model").addEventListener("change", () => writing?.abort());
  $("continue").addEventListener("click", () => write(number("length"), branches.shown.request.seed));
  $("die").addEventListener("click", () => {
    drawSeed();
    begin();
  });
  $("back").addEventListener("click", () => move(-1));
  $("forward").addEventListener("click", () => move(1));
  $("copy").addEventListener("click", () => copied(branches.shown.text, "Text copied"));
  $("copy-link").addEventListener("click", () => copied(location.href, "Link copied: it works where this server can be reached"));
  $("download").addEventListener("click", () => download(branches.shown.text));
  for (const view of ["surprise", "attention"]) $(`to-${view}`).addEventListener("click", () => page.open(view, branches.shown.text));
  document.addEventListener("model", beginWithModel);
  document.addEventListener("view", () => (branches.count ? describe() : writeFirst()));
  return () => branches.shown?.text ?? "";
}
