// The state of a view in the address, so that a reload and a shared link show the same.

// The view and its state, from an address such as #write?prompt=ROMEO&seed=1.
export function state() {
  const [view, query = ""] = location.hash.slice(1).split(/\?(.*)/s);
  return { view, values: new URLSearchParams(query) };
}

// Keep the state of the view that is shown; what is null is left out.
export function keep(view, values) {
  const given = Object.entries(values).filter(([, value]) => value !== null && value !== "");
  history.replaceState(null, "", `#${view}?${new URLSearchParams(given)}`);
}
