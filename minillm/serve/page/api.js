// The requests that the page makes.

let key = sessionStorage.getItem("key");

export class Refused extends Error {}

export async function get(path) {
  return (await ask(path)).json();
}

export async function post(path, body, signal) {
  return (await send(path, body, signal)).json();
}

// The parts of a completion, as they come.
export async function* stream(body, signal) {
  const response = await send("v1/completions", { ...body, stream: true }, signal);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let waiting = "";
  for (;;) {
    const { value, done } = await reached(reader.read());
    if (done) throw new Refused("the server broke off");
    const events = (waiting + value).split("\n\n");
    waiting = events.pop();
    for (const event of events) {
      const data = event.replace(/^data: /, "");
      if (data === "[DONE]") return;
      const part = JSON.parse(data);
      if (part.error) throw new Refused(part.error.message);
      yield part;
    }
  }
}

// Of questions that were asked one after the other, only the last one's answer counts: a function that gives the answer,
// or undefined, if something else has been asked meanwhile.
export function lastOnly(question) {
  let asked = 0;
  return async (...details) => {
    const mine = ++asked;
    try {
      const answer = await question(...details);
      return mine === asked ? answer : undefined;
    } catch (error) {
      if (mine === asked) throw error;
    }
  };
}

function send(path, body, signal) {
  const headers = { "Content-Type": "application/json" };
  return ask(path, { method: "POST", headers, body: JSON.stringify(body), signal });
}

async function ask(path, options = {}) {
  const shown = key;
  const headers = { ...options.headers, ...(shown && { Authorization: `Bearer ${shown}` }) };
  const response = await reached(fetch(path, { ...options, headers }));
  if (response.status === 401) {
    if (shown === key) key = await askForKey(shown);
    return ask(path, options);
  }
  if (shown) sessionStorage.setItem("key", shown);
  if (!response.ok) {
    const answer = await response.json().catch(() => null);
    throw new Refused(answer?.error?.message ?? `the server answered ${response.status}`);
  }
  return response;
}

async function reached(attempt) {
  try {
    return await attempt;
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused("the server does not answer: is it still there?");
  }
}

let asking = null;

function askForKey(wrong) {
  asking ??= new Promise((resolve, reject) => {
    const dialog = document.getElementById("key-dialog");
    document.getElementById("key-wrong").hidden = !wrong;
    document.getElementById("key").value = "";
    dialog.returnValue = "";
    dialog.showModal();
    dialog.addEventListener("close", () => {
      asking = null;
      if (dialog.returnValue) resolve(document.getElementById("key").value);
      else reject(new Refused("without its API key the server says nothing: reload the page to give it"));
    }, { once: true });
  });
  return asking;
}
