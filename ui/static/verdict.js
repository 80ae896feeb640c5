// Enhances pages that work without it: copy buttons, and arrow-like keys inside tables.
"use strict";

const copyable = (element) => element.dataset.copy || element.textContent.trim();

for (const element of document.querySelectorAll("[data-copy]")) {
  if (!navigator.clipboard) break;
  const button = document.createElement("button");
  button.type = "button";
  button.className = "copy";
  button.textContent = "⧉";
  button.title = "Copy";
  button.setAttribute("aria-label", `Copy ${copyable(element).slice(0, 60)}`);
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(copyable(element));
      button.textContent = "✓";
    } catch {
      button.textContent = "✗";
    }
    setTimeout(() => { button.textContent = "⧉"; }, 1500);
  });
  if (element.tagName === "PRE") element.append(button);
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
