// The command that writes what the page shows.

// `model` is a name of /v1/models, such as best-small/version_0/best.
export function command({ model, prompt, tokens, temperature, top_k, top_p, seed }) {
  const cut = model.lastIndexOf("/");
  const path = cut < 0 ? model : `lightning_logs/${model.slice(0, cut)}/checkpoints/${model.slice(cut + 1)}.ckpt`;
  const flags = { ckpt_path: path, prompt, max_new_tokens: tokens, temperature, top_k, top_p, seed };
  const given = Object.entries(flags).filter(([, value]) => value !== null);
  return ["minillm predict", ...given.map(([name, value]) => `--${name} ${quoted(String(value))}`)].join(" ");
}

// An argument of a POSIX shell, in which line breaks are allowed between quotes.
function quoted(text) {
  return /^[\w./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}
