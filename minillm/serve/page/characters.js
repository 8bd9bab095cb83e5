// Text whose tokens can be pointed at, with the mouse or with the arrow keys.

export class Characters {
  // `choose` is called with the index of the token that is pointed at, and with null if it is released.
  constructor(element, choose) {
    this.element = element;
    this.spans = [];
    this.chosen = null;
    this.pinned = null; // chosen by a click, so that the mouse can move away
    this.choose = choose;
    element.addEventListener("mouseover", (event) => this.pinned || this.point(event.target));
    element.addEventListener("click", (event) => this.#pin(event.target));
    element.addEventListener("focusin", (event) => this.point(event.target));
    element.addEventListener("keydown", (event) => this.#move(event));
  }

  clear() {
    this.element.replaceChildren();
    this.spans = [];
    this.chosen = this.pinned = null;
  }

  addPlain(text) {
    const span = document.createElement("span");
    span.className = "prompt";
    span.textContent = text;
    this.element.append(span);
  }

  // A token; one of them can be reached with the Tab key, the others from there.
  add(text) {
    const span = document.createElement("span");
    span.textContent = text;
    span.dataset.index = this.spans.length;
    span.classList.toggle("line-end", /^\n+$/.test(text));
    span.tabIndex = this.chosen ? -1 : 0;
    this.chosen ??= span;
    this.spans.push(span);
    this.element.append(span);
    return span;
  }

  point(target) {
    if (target.dataset.index === undefined) return;
    this.chosen.classList.remove("chosen");
    this.chosen.tabIndex = -1;
    this.chosen = target;
    target.classList.add("chosen");
    target.tabIndex = 0;
    this.choose(Number(target.dataset.index));
  }

  release() {
    this.chosen?.classList.remove("chosen");
    this.pinned = null;
    this.choose(null);
  }

  // A second click releases a token.
  #pin(target) {
    if (target.dataset.index === undefined) return;
    if (target === this.pinned) {
      this.release();
      return;
    }
    this.pinned = target;
    this.point(target);
    target.scrollIntoView({ block: "nearest" });
  }

  #move(event) {
    const from = Number(event.target.dataset.index);
    const to = { ArrowLeft: from - 1, ArrowRight: from + 1, Home: 0, End: this.spans.length - 1 }[event.key];
    if (to === undefined || !this.spans[to]) return;
    event.preventDefault();
    this.spans[to].focus();
  }
}

// The part of a text that each of its tokens stands for; of a character of several tokens it is the last one's.
export function parts(text, offsets) {
  const characters = [...text];
  const begin = offsets[0] ?? 0;
  return offsets.map((offset, index) => characters.slice(offset - begin, (offsets[index + 1] ?? Infinity) - begin).join(""));
}

// A token in words that can be seen and heard.
export function named(text) {
  return { "\n": "new line", " ": "space", "\t": "tab", "\r": "return" }[text] ?? text.replaceAll("\n", "⏎").replaceAll(" ", "␣");
}

// Fill a table with the shares of tokens, likeliest first, and with the one that was taken, if it is not among them.
// With `choose`, another token can be taken, which it is called with.
export function showBars(table, likeliest, taken, share, choose = null) {
  table.replaceChildren();
  const all = likeliest.some(([token]) => token === taken) ? likeliest : [...likeliest, [taken, share]];
  for (const [token, value] of all) {
    const row = table.insertRow();
    row.className = token === taken ? "taken" : value ? "" : "cut";
    const head = document.createElement("th");
    head.scope = "row";
    if (choose && token !== taken && !/\uFFFD|^<\|/.test(token)) {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = named(token);
      button.title = `Go on with “${named(token)}”`;
      row.addEventListener("click", () => choose(token));
      head.append(button);
    } else head.textContent = named(token);
    const text = document.createElement("span");
    text.textContent = percent(value);
    const cell = document.createElement("td");
    cell.style.setProperty("--amount", 100 * value);
    cell.append(text);
    row.append(head, cell);
  }
}

export function counted(tokens) {
  return `${tokens} ${tokens === 1 ? "token" : "tokens"}`;
}

export function percent(probability) {
  if (probability > 0 && probability < 0.0005) return "< 0.1 %";
  return probability >= 0.0995 ? `${Math.round(100 * probability)} %` : `${(100 * probability).toFixed(1)} %`;
}
