// Enhances pages that work without it: copy buttons, and arrow-like keys inside tables.
"use strict";

const copyable = (element) => element.dataset.copy || element.textContent.trim();

// The shapes are drawn: not every font has signs for them.
const SHAPES = { copy: "M4 4V1.5h6.5v6.5H8M1.5 4H8v6.5H1.5z", done: "M2 6.5 5 9.5 10 3", failed: "M3 3l6 6M9 3l-6 6" };

const shape = (name) => {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  for (const [key, value] of Object.entries({ class: "glyph", viewBox: "0 0 12 12", width: "12", height: "12", "aria-hidden": "true" })) {
    svg.setAttribute(key, value);
  }
  path.setAttribute("d", SHAPES[name]);
  svg.append(path);
  return svg;
};

for (const element of document.querySelectorAll("[data-copy]")) {
  if (!navigator.clipboard) break;
  const text = copyable(element);
  const button = document.createElement("button");
  button.type = "button";
  button.className = "copy";
  button.title = "Copy";
  button.setAttribute("aria-label", `Copy ${text.slice(0, 60)}`);
  button.replaceChildren(shape("copy"));
  button.addEventListener("click", async () => {
    let result = "done";
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      result = "failed";
    }
    button.replaceChildren(shape(result));
    setTimeout(() => button.replaceChildren(shape("copy")), 1500);
  });
  if (["PRE", "TD"].includes(element.tagName)) element.append(button);
  else element.after(button);
}

// j and k move between the links of a table's rows, only while the focus is inside that table.
for (const table of document.querySelectorAll("table.rows")) {
  table.addEventListener("keydown", (event) => {
    if ((event.key !== "j" && event.key !== "k") || event.ctrlKey || event.metaKey || event.altKey) return;
    const row = event.target.closest("tbody tr");
    const next = event.key === "j" ? row?.nextElementSibling : row?.previousElementSibling;
    const link = next?.querySelector("a");
    if (link) {
      link.focus();
      event.preventDefault();
    }
  });
}

// A chosen theme applies at once; the button is for browsers without script.
const theme = document.getElementById("theme");
if (theme) {
  theme.addEventListener("change", () => theme.form.requestSubmit());
  theme.form.querySelector("button").hidden = true;
}
