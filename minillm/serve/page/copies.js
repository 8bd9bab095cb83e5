// Copies: the parts of a text that are in the training text, word for word, are underlined.

import { lastOnly, post, Refused } from "./api.js";

const $ = (id) => document.getElementById(id);
const SEARCHED = 8192; // characters that the server looks for at a time

export class Copies {
  #found = []; // matches with their first token and the one after their last
  #corpus = "";
  #text = null; // that is looked for
  #spans;
  #ask = lastOnly((body) => post("verbatim_matches", body));

  // `spans` are the elements of the tokens of the text that is shown.
  constructor(spans) {
    this.#spans = spans;
    $("copies-length").addEventListener("input", () => this.#show());
  }

  // Find the copies in a branch, which is shown.
  async find({ text, prompt, tokens, request }) {
    this.clear();
    const model = request?.model;
    this.#text = text;
    const characters = [...text];
    const skipped = Math.max(characters.length - SEARCHED, 0);
    try {
      const body = { model, text: characters.slice(skipped).join(""), min_length: Number($("copies-length").min) };
      const answer = await this.#ask(body);
      if (!answer || this.#text !== text) return; // another text is shown by now
      const ends = [];
      let end = [...prompt].length - skipped;
      for (const { part } of tokens) ends.push((end += [...part].length));
      const tokenAt = (place) => ends.findIndex((one) => one > place);
      this.#corpus = answer.corpus;
      this.#found = answer.matches
        .map((match) => ({ ...match, first: tokenAt(match.start), last: tokenAt(match.start + match.length - 1) }))
        .filter(({ last, start, length }) => last >= 0 && start + length > [...prompt].length - skipped);
      this.#show();
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      if (this.#text === text) $("copies-status").textContent = `No copies are shown: ${error.message}`;
    }
  }

  clear() {
    this.#text = null;
    this.#found = [];
    this.#show();
    $("copies-status").textContent = "";
  }

  // What a token is copied from, in words; empty if it is not.
  at(index) {
    const match = this.#longEnough().find(({ first, last }) => first <= index && index <= last);
    return match ? this.#describe(match) : "";
  }

  #longEnough() {
    return this.#found.filter(({ length }) => length >= Number($("copies-length").value));
  }

  #describe({ length, line }) {
    return `One of ${length} characters that are in line ${line.toLocaleString("en")} of “${this.#corpus}”`;
  }

  #show() {
    for (const span of this.#spans()) {
      span.classList.remove("copy", "copy-start");
      span.removeAttribute("title");
    }
    const shown = this.#longEnough();
    for (const match of shown) {
      for (const span of this.#spans().slice(match.first, match.last + 1)) {
        span.classList.add("copy");
        span.title = this.#describe(match);
      }
      this.#spans()[match.first].classList.add("copy-start");
    }
    const shortest = $("copies-length").value;
    $("copies-value").textContent = shortest;
    const longest = Math.max(...shown.map(({ length }) => length));
    $("copies-status").textContent = shown.length
      ? `${shown.length} ${shown.length === 1 ? "copy" : "copies"} from “${this.#corpus}”, the longest of ${longest} characters`
      : `no copy of ${shortest} characters or more`;
  }
}
