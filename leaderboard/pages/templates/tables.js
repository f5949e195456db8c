"use strict";
// A click or Enter on a column's head sorts by it: numbers from the largest, text from A.
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    if (head.dataset.sort === "none") return;
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    head.setAttribute("aria-sort", "none");
    button.addEventListener("click", () => {
      const isNumber = head.classList.contains("number");
      const first = isNumber ? "descending" : "ascending";
      const second = isNumber ? "ascending" : "descending";
      const order = head.getAttribute("aria-sort") === first ? second : first;
      for (const other of heads) {
        if (other.hasAttribute("aria-sort")) other.setAttribute("aria-sort", "none");
      }
      head.setAttribute("aria-sort", order);
      sortRows(table.tBodies[0], column, isNumber, order === "ascending" ? 1 : -1);
    });
  });
}

function sortRows(body, column, isNumber, sign) {
  const keyed = [...body.rows].map((row) => {
    const cell = row.cells[column];
    const text = cell.dataset.value ?? cell.textContent.trim();
    return { row, key: isNumber ? (text === "" ? NaN : Number(text)) : text };
  });
  const words = new Intl.Collator("en", { numeric: true });
  keyed.sort((a, b) => {
    if (!isNumber) return sign * words.compare(a.key, b.key);
    // What has no number stands last either way.
    if (Number.isNaN(a.key) || Number.isNaN(b.key)) return Number.isNaN(a.key) - Number.isNaN(b.key);
    return sign * (a.key - b.key);
  });
  body.append(...keyed.map(({ row }) => row));
}
