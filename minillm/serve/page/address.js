// The state of a view in the address, so that a reload and a shared link show the same.

const kept = {}; // the address of each view

// The view and its state, from an address such as #write?prompt=ROMEO&seed=1.
export function state() {
  const [view, query = ""] = location.hash.slice(1).split(/\?(.*)/s);
  return { view, values: new URLSearchParams(query) };
}

// Keep the state of the view that is shown; what is null is left out.
export function keep(view, values) {
  const given = Object.entries(values).filter(([, value]) => value !== null);
  history.replaceState(null, "", `#${view}?${new URLSearchParams(given)}`);
  kept[view] = location.hash;
}

// Whether the address is a link: it has a state that is not the one of its view.
export function isLink() {
  const { view, values } = state();
  return values.size > 0 && location.hash !== kept[view];
}
