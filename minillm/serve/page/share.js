// Taking a text along: to the clipboard, or as a file.

import { Refused } from "./api.js";

export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text); // which exists at https and localhost only
  } catch {
    throw new Refused("the browser does not allow copying: select the text, or the address, and copy it");
  }
}

export function download(text) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "text/plain" }));
  link.download = "text.txt";
  link.click();
  URL.revokeObjectURL(link.href);
}
