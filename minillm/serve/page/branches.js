// Texts that begin alike: each goes on from a place of another one with another token.

class Branch {
  constructor(prompt, tokens) {
    this.prompt = prompt;
    this.tokens = tokens; // each with its part of the text, its name and the scores at its place
    this.request = null; // what has written its last part
    this.status = ""; // how that ended
    this.isEnded = false; // by the model
  }

  get text() {
    return this.prompt + this.tokens.map(({ part }) => part).join("");
  }
}

export class Branches {
  #all = [];
  #index = -1;

  get shown() {
    return this.#all[this.#index];
  }

  get count() {
    return this.#all.length;
  }

  get number() {
    return this.#index + 1;
  }

  has(by) {
    return this.#all[this.#index + by] !== undefined;
  }

  move(by) {
    if (this.has(by)) this.#index += by;
  }

  clear() {
    this.#all = [];
    this.#index = -1;
  }

  // Forget the text that is shown, if there is another one.
  drop() {
    if (this.#all.length < 2) return;
    this.#all.splice(this.#index, 1);
    this.#index = this.#all.length - 1;
  }

  // Show the text that a request has written; false if there is none.
  select(isRequest) {
    const index = this.#all.findLastIndex(({ request }) => request && isRequest(request));
    if (index >= 0) this.#index = index;
    return index >= 0;
  }

  // A text of its own.
  begin(prompt) {
    this.#add(new Branch(prompt, []));
  }

  // A text that is the one shown up to a place, where it has another token.
  fork(place, token) {
    const { prompt, tokens } = this.shown;
    const chosen = { ...tokens[place], part: token, token, isChosen: true };
    this.#add(new Branch(prompt, [...tokens.slice(0, place), chosen]));
  }

  #add(branch) {
    this.#index = this.#all.push(branch) - 1;
  }
}
