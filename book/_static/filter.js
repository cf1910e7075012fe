/* A box that filters the lines of all tables below it: in every element of class "filter". It stays empty without
 * JavaScript.
 *
 * A line stays when it contains all words that are typed, in any order, in small or capital letters; the caption of its
 * table counts, too. A table without such a line is hidden with what belongs to it, and a folded one with such a line is opened.
 * Nothing is loaded.
 */
"use strict";

(function () {
  /* The table, with its box that scrolls and the paragraphs under it; where it is folded, what holds it. */
  function parts(table) {
    const fold = table.closest("details");
    if (fold) return [fold];
    const box = table.closest(".table-scroll") || table;
    const found = [box];
    while (found.at(-1).nextElementSibling && found.at(-1).nextElementSibling.matches(".table-csv, .table-note")) {
      found.push(found.at(-1).nextElementSibling);
    }
    return found;
  }

  /* Each table after a place, but none with cells over several lines: these cannot stand alone. */
  function below(place) {
    return Array.from(document.querySelectorAll("table.study")).filter(function (table) {
      const follows = place.compareDocumentPosition(table) & Node.DOCUMENT_POSITION_FOLLOWING;
      return follows && !table.querySelector("tbody [rowspan]");
    });
  }

  function prepare(place, number) {
    const tables = below(place).map(function (table) {
      const caption = table.caption ? table.caption.textContent : "";
      const rows = Array.from(table.tBodies[0].rows, function (row) {
        return [row, (caption + " " + row.textContent).toLowerCase()];
      });
      return [parts(table), rows];
    });
    const all = tables.reduce(function (sum, entry) { return sum + entry[1].length; }, 0);
    const label = document.createElement("label");
    const input = document.createElement("input");
    const said = document.createElement("output");
    input.type = "search";
    input.id = "filter-" + number;
    input.autocomplete = "off";
    input.spellcheck = false;
    label.htmlFor = said.htmlFor = input.id;
    label.textContent = "Filter the tables below: lines with all of these words";

    function filter() {
      const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
      let left = 0;
      tables.forEach(function ([elements, rows]) {
        let kept = 0;
        rows.forEach(function ([row, text]) {
          row.hidden = !words.every(function (word) { return text.includes(word); });
          kept += !row.hidden;
        });
        elements.forEach(function (element) {
          element.hidden = kept === 0;
          if (element.matches("details")) element.open = words.length > 0;
        });
        left += kept;
      });
      said.textContent = left + " of " + all + " lines";
    }

    input.addEventListener("input", filter);
    place.append(label, input, said);
    filter();
  }

  function start() {
    document.querySelectorAll("div.filter").forEach(prepare);
  }

  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
})();
