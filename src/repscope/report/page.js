"use strict";
// The page: everything here sets text and attributes only; no string becomes markup.

function enableCopy() {
  const button = byId("copy");
  if (!button) return;
  button.addEventListener("click", async () => {
    const text = JSON.stringify(JSON.parse(byId("record-data").textContent), null, 2);
    try {
      await navigator.clipboard.writeText(text);
      byId("copied").textContent = "copied";
    } catch {
      // Some browsers keep the clipboard from local files: offer the text instead.
      const area = byId("copy-text");
      area.hidden = false;
      area.value = text;
      area.focus();
      area.select();
      byId("copied").textContent = "selected below; copy it with your keyboard";
    }
  });
}

function sortKey(cell) {
  if (cell.dataset.number !== undefined) return Number(cell.dataset.number);
  const text = cell.textContent.trim();
  return ["", "–", "undecided"].includes(text) ? null : text;
}

function compareCells([left], [right]) {
  if (typeof left === "number" && typeof right === "number") return left - right;
  return String(left).localeCompare(String(right), "en", { numeric: true });
}

// Cells without a value stay below, whichever way the others go.
function sortTable(table, column, ascending) {
  const body = table.tBodies[0];
  const keyed = Array.from(body.rows, (row) => [sortKey(row.cells[column]), row]);
  const known = keyed.filter(([key]) => key !== null).sort(compareCells);
  if (!ascending) known.reverse();
  const unknown = keyed.filter(([key]) => key === null);
  body.append(...known.concat(unknown).map(([, row]) => row));
}

function enableSorting(table) {
  const headings = Array.from(table.tHead.rows[0].cells);
  headings.forEach((heading, column) => {
    const button = heading.querySelector("button");
    if (!button) return;
    button.addEventListener("click", () => {
      const ascending = heading.getAttribute("aria-sort") !== "ascending";
      headings.forEach((other) => other.removeAttribute("aria-sort"));
      heading.setAttribute("aria-sort", ascending ? "ascending" : "descending");
      sortTable(table, column, ascending);
    });
  });
}

function enableFilter() {
  const input = byId("samples-filter");
  if (!input) return;
  const rows = Array.from(byId("samples-table").tBodies[0].rows);
  const texts = rows.map((row) => Array.from(row.cells, (cell) => cell.textContent).join(" ").toLowerCase());
  const show = () => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    rows.forEach((row, index) => {
      row.hidden = !words.every((word) => texts[index].includes(word));
    });
    const shown = rows.filter((row) => !row.hidden).length;
    byId("samples-count").textContent = `${shown} of ${rows.length} rows`;
  };
  input.addEventListener("input", show);
  show();
}

function enableViewer() {
  const viewer = byId("viewer");
  if (!viewer) return;
  document.querySelectorAll(".thumbnail").forEach((button) => {
    button.addEventListener("click", () => {
      const picture = viewer.querySelector("img");
      picture.setAttribute("src", button.querySelector("img").getAttribute("src"));
      picture.setAttribute("alt", button.dataset.words);
      viewer.querySelector("p").textContent = button.dataset.words;
      viewer.showModal();
    });
  });
  viewer.addEventListener("click", (event) => {
    if (event.target === viewer) viewer.close();
  });
}

// Paper has no switches: everything folded is opened while the page is printed.
function enablePrinting(recolour) {
  let opened = [];
  const change = (isPrinting) => {
    if (isPrinting) opened = opened.concat(Array.from(document.querySelectorAll("details:not([open])")));
    opened.forEach((details) => { details.open = isPrinting; });
    if (!isPrinting) opened = [];
    recolour();
  };
  addEventListener("beforeprint", () => change(true));
  addEventListener("afterprint", () => change(false));
  matchMedia("print").addEventListener("change", (query) => change(query.matches));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", recolour);
}

enableCopy();
document.querySelectorAll("table[data-sortable]").forEach(enableSorting);
enableFilter();
enableViewer();
const mapData = readMap();
const mapView = mapData ? new MapView(mapData) : null;
enablePrinting(() => mapView?.recolour());
document.documentElement.dataset.ready = "true";
