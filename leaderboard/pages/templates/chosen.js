"use strict";
// Two chosen runs side by side. Names are a user's text: they become text nodes, never markup.
const known = JSON.parse(document.getElementById("chosen-data").textContent);
const chosen = ["first", "second"].map((id) => document.getElementById(`chosen-${id}`));

function made(tag, properties, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

const number = (value) => value.toFixed(1);
// What rounds to 0 has no sign.
const signed = (value) => (Math.abs(value) < 0.05 ? "0.0" : (value > 0 ? "+" : "") + number(value));

function differences(first, second) {
  const low = Math.min(first, second), high = Math.max(first, second);
  const pair = known.pairs.find((one) => one.first === low && one.second === high);
  if (first === low) return pair.rows;
  return pair.rows.map(([value, from, to]) => [-value, to === null ? null : -to, from === null ? null : -from]);
}

function verdict([, low, high]) {
  if (low === null) return "";
  return high < 0 ? "lower" : low > 0 ? "higher" : "not told apart";
}

function row(place, first, second, found) {
  const numbers = [second, first].map((model) =>
    made("td", { className: "number" }, number(known.scores[model][place])));
  const range = found[1] === null ? "" : `${signed(found[1])} to ${signed(found[2])}`;
  const [family, name] = known.groups[place];
  const shown = family === "label type" ? name[0].toUpperCase() + name.slice(1) : name;
  return made("tr", {}, made("th", { scope: "row" }, made("bdi", {}, shown)), ...numbers,
    made("td", { className: "number" }, signed(found[0]), made("small", {}, range), made("small", {}, verdict(found))));
}

function table(family, first, second, rows) {
  const names = [second, first].map((model) =>
    made("th", { scope: "col", className: "number" }, made("bdi", {}, known.models[model])));
  const head = made("tr", {}, made("th", { scope: "col" }, family[0].toUpperCase() + family.slice(1)), ...names,
    made("th", { scope: "col", className: "number" }, "Difference"));
  const body = known.groups.map((group, place) => [group, place]).filter(([group]) => group[0] === family)
    .map(([, place]) => row(place, first, second, rows[place]));
  return made("div", { className: "scroll", tabIndex: 0 },
    made("table", { className: "two" }, made("thead", {}, head), made("tbody", {}, ...body)));
}

function show() {
  const [first, second] = chosen.map((field) => Number(field.value));
  const result = document.getElementById("chosen-result");
  if (first === second) {
    result.replaceChildren(made("p", {}, "Choose two different models."));
    return;
  }
  const rows = differences(first, second);
  const more = ["data set", "verbalizer"].map((family) =>
    made("details", { className: "full" }, made("summary", {}, `By ${family}`), table(family, first, second, rows)));
  result.replaceChildren(table("label type", first, second, rows), ...more);
}

for (const field of chosen) field.addEventListener("input", show);
document.getElementById("chosen-section").hidden = false;
show();
