// The state of a view in the address, so that a reload and a shared link show the same.

export const LINKED = 4000; // characters of a text in an address
const kept = {}; // the address of each view

// The view and its state, from an address such as #write?prompt=ROMEO&seed=1.
export function state() {
  const [view, query = ""] = location.hash.slice(1).split(/\?(.*)/s);
  return { view, values: new URLSearchParams(query) };
}

// The state in an address; what is null is left out.
export function query(values) {
  return new URLSearchParams(Object.entries(values).filter(([, value]) => value !== null)).toString();
}

// Keep the state of the view that is shown. The browser's Back returns from a new one to the one before.
export function keep(view, values, isNew = false) {
  const hash = `#${view}?${query(values)}`;
  if (isNew && hash !== location.hash) history.pushState(null, "", hash);
  else history.replaceState(null, "", hash);
  kept[view] = location.hash;
}

// Whether the address is a link: it has a state that is not the one of its view.
export function isLink() {
  const { view, values } = state();
  return values.size > 0 && location.hash !== kept[view];
}
