"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const controls = document.querySelector(".controls");
const fields = ["search", "kind", "protocol"].map((id) => document.getElementById(id));
const dialog = document.getElementById("details");
const rows = [...document.querySelectorAll("tr[data-path]")].map((row) => ({
  row,
  path: row.dataset.path,
  kind: row.dataset.kind,
  protocol: row.closest("section").dataset.protocol,
  text: `${row.cells[1].textContent} ${row.cells[row.cells.length - 1].textContent}`.toLowerCase(),
}));

// Everything shown is a submitter's text: it becomes text nodes, never markup.
function element(tag, properties, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children.filter((child) => child !== null));
  return made;
}

const points = (share) => (100 * share).toFixed(1);
// What rounds to 0 has no sign.
const signed = (share) => (Math.abs(share) < 0.0005 ? "0.0" : (share > 0 ? "+" : "") + points(share));
const title = (word) => word[0].toUpperCase() + word.slice(1);
const isolated = (text) => element("bdi", {}, text);

function filter() {
  const [search, kind, protocol] = fields.map((field) => field.value);
  const words = search.toLowerCase().split(/\s+/).filter(Boolean);
  let shown = 0;
  for (const one of rows) {
    const fits = (!kind || one.kind === kind) && (!protocol || one.protocol === protocol)
      && words.every((word) => one.text.includes(word));
    one.row.hidden = !fits;
    shown += fits;
  }
  for (const board of document.querySelectorAll("section.board")) {
    board.hidden = !board.querySelector("tbody tr:not([hidden])");
  }
  document.getElementById("count").textContent = `${shown} of ${rows.length} shown`;
}

// The address holds what is filtered and opened, so that it can be shared.
function remember(open) {
  const state = new URLSearchParams();
  for (const field of fields) if (field.value) state.set(field.id, field.value);
  if (open) state.set("open", open);
  const hash = state.toString();
  history.replaceState(null, "", hash ? `#${hash}` : location.pathname + location.search);
}

function recall() {
  // A link to a section says nothing of what is filtered.
  if (location.hash && !location.hash.includes("=")) { filter(); return; }
  const state = new URLSearchParams(location.hash.slice(1));
  for (const field of fields) {
    const value = state.get(field.id) ?? "";
    field.value = value;
    if (field.value !== value) field.value = "";
  }
  filter();
  const path = state.get("open");
  if (path && Object.hasOwn(data.rows, path)) open(path);
  else if (dialog.open) dialog.close();
}

function bars(found) {
  return element("div", { className: "bars" }, ...data.columns.map((name) => {
    const score = found.scores[name];
    const range = score.low === null ? "" : ` [${points(score.low)}, ${points(score.high)}]`;
    const bar = element("i", { className: "bar" });
    bar.style.width = `${100 * score.mean}%`;
    const track = element("span", { className: "track" }, bar);
    if (score.low !== null) {
      const whisker = element("i", { className: "whisker" });
      whisker.style.left = `${100 * score.low}%`;
      whisker.style.width = `${100 * (score.high - score.low)}%`;
      track.append(whisker);
    }
    return element("div", {}, element("span", {}, title(name)), track,
      element("span", { className: "value" }, points(score.mean) + range));
  }));
}

function change(found) {
  if (!found.change) return null;
  const section = element("section", {}, element("h3", {}, "Minus base"));
  if (!found.change.base) {
    section.append(element("p", {}, "Not compared with ", isolated(found.model.base), `: ${found.change.reason}.`));
    return section;
  }
  section.append(element("p", { className: "muted" }, isolated(found.change.base)));
  if (found.change.differs.includes("image")) {
    section.append(element("p", {}, "The base saw no image and this model did: tuning and image are together in the difference."));
  }
  const body = element("tbody", {}, ...[...data.columns, "slope"].map((name) => {
    const group = found.change.groups[name];
    const range = group.low === null ? "" : `${signed(group.low)} to ${signed(group.high)}`;
    return element("tr", {}, element("th", { scope: "row" }, title(name)),
      element("td", { className: "number" }, signed(group.difference)),
      element("td", { className: "number" }, range));
  }));
  section.append(element("table", {}, body));
  return section;
}

function outcomes(found) {
  const key = element("ul", { className: "key" }, ...data.outcomes.map((name) =>
    element("li", {}, element("i", { className: `outcome-${name}` }), name)));
  const lines = data.columns.map((column) => {
    const shares = found.outcomes[column];
    const said = data.outcomes.map((name) => `${name} ${points(shares[name] ?? 0)}`).join(", ");
    const stack = element("span", { className: "stacked" });
    stack.setAttribute("role", "img");
    stack.setAttribute("aria-label", said);
    for (const name of data.outcomes) {
      const part = element("i", { className: `outcome-${name}` });
      part.style.width = `${100 * (shares[name] ?? 0)}%`;
      stack.append(part);
    }
    return element("tr", {}, element("th", { scope: "row" }, title(column)),
      element("td", {}, stack, element("small", {}, said)));
  });
  return element("section", {}, element("h3", {}, "What the responses did, in %"), key,
    element("table", { className: "wide" }, element("tbody", {}, ...lines)));
}

function heat(found) {
  const head = element("tr", {}, element("th", { scope: "col" }, "Data set"),
    ...data.verbalizers.map((name) => element("th", { scope: "col" }, name)));
  const body = data.datasets.map((name) =>
    element("tr", {}, element("th", { scope: "row" }, name), ...found.f1[name].map((share) => {
      if (share === null) return element("td", {}, "-");
      const cell = element("td", {}, String(Math.round(100 * share)));
      [cell.style.background, cell.style.color] = data.shades[Math.round(100 * share)];
      return cell;
    })));
  const table = element("table", { className: "heat" },
    element("caption", {}, element("span", {}, "F1 in %; a verbalizer is the word for the first class | for the second")),
    element("thead", {}, head), element("tbody", {}, ...body));
  const scroll = element("div", { className: "scroll", tabIndex: 0 }, table);
  scroll.setAttribute("role", "region");
  scroll.setAttribute("aria-label", "F1 by data set and verbalizer");
  return element("section", {}, element("h3", {}, "F1 by data set and verbalizer"), scroll);
}

// What stands behind an address, as far as its host tells.
function linked(address) {
  const { hostname, pathname } = new URL(address);
  const is = (host) => hostname === host || hostname.endsWith(`.${host}`);
  if (is("arxiv.org")) return "Paper on arXiv";
  if (is("aclanthology.org")) return "Paper in the ACL Anthology";
  if (is("doi.org")) return "Publication (DOI)";
  if (is("huggingface.co")) return pathname.startsWith("/datasets/") ? "Data set on Hugging Face" : "Model on Hugging Face";
  if (is("github.com") || is("gitlab.com")) return "Code repository";
  return `Page at ${hostname}`;
}

function provenance(found) {
  const model = found.model;
  const sources = Object.entries(found.sources).map(([name, source]) => `${name}: ${source}`);
  const lines = [
    ["Kind", model.kind], ["Hub commit", model.revision], ["Weights (sha256)", model.weights_sha256],
    ["Tuned from", model.base], ["Recipe", model.recipe],
    ["Parameters", model.parameters === null ? null : model.parameters.toLocaleString("en")],
    ["Chat template", found.chat_template ? "applied" : "not applied"], ["Image", found.image_mode], ["Prompts", found.identity], ["Rows from", sources.join(", ")],
    ["Submitter", found.submitter], ["Date", found.date], ["Licence", found.licence],
    ["Notes", found.notes], ["Submission", found.path],
    ...found.levels.map((level) =>
      [`Level ${level.level}`, `${level.name}: ${[level.status, ...level.notes].join("; ")}`]),
    ...found.differences.map((text) => ["Differs from paper", text]),
    ...found.warnings.map((text) => ["Note", text]),
  ];
  const list = element("dl", {});
  for (const [name, value] of lines) {
    if (value) list.append(element("dt", {}, name), element("dd", {}, isolated(value)));
  }
  for (const address of found.links) {
    // Checked when it was validated, and again here: an address can be a script.
    if (!/^https?:\/\//.test(address)) continue;
    const link = element("a", { href: address, rel: "noopener noreferrer nofollow" }, isolated(address));
    list.append(element("dt", {}, linked(address)), element("dd", {}, link));
  }
  return element("section", {}, element("h3", {}, "Where this comes from"), list);
}

function open(path) {
  const found = data.rows[path];
  const close = element("button", { type: "button", className: "close" }, "Close");
  close.addEventListener("click", () => dialog.close());
  const heading = element("h2", { id: "details-title" }, isolated(found.model.id));
  const parts = [bars, change, outcomes, heat, provenance].map((part) => part(found));
  dialog.replaceChildren(close, heading, ...parts.filter((part) => part !== null));
  if (!dialog.open) dialog.showModal();
  dialog.scrollTop = 0;
  remember(path);
}

// The difference of two rows of a table in All, paired by document: the standard error is known of
// the tables that are not too long.
function interval(one, other) {
  const table = data.errors.find((own) => own.paths.includes(one.path) && own.paths.includes(other.path));
  if (!table) return null;
  const places = [one, other].map((row) => table.paths.indexOf(row.path)).sort((a, b) => b - a);
  const error = table.errors[places[0]][places[1]];
  const change = one.scores.All.mean - other.scores.All.mean;
  return error === null ? null : [change - 1.96 * error, change + 1.96 * error];
}

function compareTwo() {
  const [one, other] = choices.map((field) => data.rows[field.value]);
  const result = document.getElementById("two-result");
  if (one === other) {
    result.replaceChildren(element("p", {}, "Choose two different models."));
    return;
  }
  const protocols = choices.map((field) => field.selectedOptions[0].parentElement.label);
  const alike = protocols[0] === protocols[1];
  const cell = (score) => element("td", { className: "number" }, points(score.mean),
    element("small", {}, score.low === null ? "" : `${points(score.low)}–${points(score.high)}`));
  const lines = data.columns.map((name) => {
    const range = alike && name === "All" ? interval(one, other) : null;
    const change = element("td", { className: "number" }, signed(one.scores[name].mean - other.scores[name].mean),
      element("small", {}, range ? `${signed(range[0])} to ${signed(range[1])}` : ""));
    return element("tr", {}, element("th", { scope: "row" }, title(name)), cell(one.scores[name]), cell(other.scores[name]),
      alike ? change : element("td", {}, "–"));
  });
  const said = data.outcomes.map((name) => element("tr", {}, element("th", { scope: "row" }, title(name)),
    ...[one, other].map((row) => element("td", { className: "number" }, points(row.outcomes.All[name] ?? 0))),
    element("td", { className: "number" }, alike ? signed((one.outcomes.All[name] ?? 0) - (other.outcomes.All[name] ?? 0)) : "–")));
  const head = element("tr", {}, element("th", { scope: "col" }, ""), ...[one, other].map((row) =>
    element("th", { scope: "col", className: "number" }, isolated(row.model.id))),
    element("th", { scope: "col", className: "number" }, "Difference"));
  const group = (text) => element("tr", {}, element("th", { colSpan: 4, className: "group" }, text));
  const table = element("table", { className: "two" }, element("thead", {}, head),
    element("tbody", {}, group("F1 in %"), ...lines, group("Responses in %, over all"), ...said));
  const note = alike ? "The interval of the difference in All is paired by document. Where none stands, fewer than 15 documents differ, or the table is too long for this page."
    : "They are of different tables: their prompts were asked in different ways, and no difference is shown.";
  result.replaceChildren(element("div", { className: "scroll", tabIndex: 0 }, table), element("p", { className: "muted" }, note));
}

const choices = [...document.querySelectorAll(".two-choice")];
if (choices.length) {
  for (const field of choices) field.addEventListener("input", compareTwo);
  choices[1].selectedIndex = 1;
  document.getElementById("two-section").hidden = false;
  compareTwo();
}
for (const { row, path } of rows) {
  const head = row.cells[1];
  const button = element("button", { type: "button" }, ...head.childNodes);
  button.setAttribute("aria-haspopup", "dialog");
  button.addEventListener("click", () => open(path));
  head.append(button);
}
for (const field of fields) {
  field.addEventListener("input", () => { filter(); remember(""); });
}
dialog.addEventListener("close", () => remember(""));
dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
addEventListener("hashchange", recall);
controls.hidden = false;
recall();
