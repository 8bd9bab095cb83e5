// The settings of sampling: sliders and fields.

const $ = (id) => document.getElementById(id);
const MOST_K = 200; // of the slider

export const number = (id) => ($(id).value === "" ? null : Number($(id).value));

// As the server takes them; null is for no limit.
export function sampling() {
  return {
    temperature: number("temperature"),
    top_k: $("top-k").value === $("top-k").max ? null : number("top-k"),
    top_p: number("top-p") === 1 ? null : number("top-p"),
  };
}

export function showSettings() {
  const { temperature, top_k, top_p } = sampling();
  $("temperature-value").textContent = temperature === 0 ? "greedy" : temperature.toFixed(2);
  $("top-k-value").textContent = top_k ?? "all";
  $("top-p-value").textContent = top_p ?? "all";
}

// Fit the settings to a model, and set those of an address, if there is one.
export function setSettings(vocab_size, values) {
  const wasAll = $("top-k").value === $("top-k").max;
  $("top-k").max = Math.min(vocab_size, MOST_K);
  if (wasAll) $("top-k").value = $("top-k").max;
  if (values.size) {
    $("seed").value = values.get("seed") ?? "";
    $("length").value = values.get("tokens") ?? $("length").defaultValue;
    $("temperature").value = values.get("temperature") ?? $("temperature").defaultValue;
    $("top-k").value = values.get("top_k") ?? $("top-k").max;
    $("top-p").value = values.get("top_p") ?? 1;
  }
  showSettings();
}

export function drawSeed() {
  $("seed").value = crypto.getRandomValues(new Uint32Array(1))[0];
}
