/* Sorts the lines of a table by a column: the headings of every table of class "sortable" become buttons.
 *
 * The first press puts the largest number first (of names, the first letter), the second turns the order, the third
 * brings back the order of the page. What has no number in the column stays at the end. Nothing is loaded.
 */
"use strict";

(function () {
  /* [heading, its column] of each heading of one column; groups and headings over two lines are taken into account. */
  function headings(table) {
    const found = [];
    const taken = [];
    Array.from(table.tHead.rows).forEach(function (row, line) {
      let column = 0;
      Array.from(row.cells).forEach(function (cell) {
        while ((taken[line] || {})[column]) column += 1;
        for (let down = 0; down < cell.rowSpan; down += 1) {
          taken[line + down] = taken[line + down] || {};
          for (let across = 0; across < cell.colSpan; across += 1) taken[line + down][column + across] = true;
        }
        if (cell.scope === "col") found.push([cell, column]);
        column += cell.colSpan;
      });
    });
    return found;
  }

  /* The text of a line in a column without its notes; "" where one cell covers several columns. */
  function text(row, column) {
    let place = 0;
    for (const cell of row.cells) {
      if (column < place + cell.colSpan) {
        if (cell.colSpan > 1 || cell.classList.contains("state")) return "";
        const copy = cell.cloneNode(true);
        copy.querySelectorAll("small").forEach(function (note) { note.remove(); });
        return copy.textContent.trim();
      }
      place += cell.colSpan;
    }
    return "";
  }

  /* The number with which a text begins, of an interval its lower end; NaN where it begins with none. */
  function number(words) {
    return parseFloat(words.replace(/^\[/, "").replace(/\u2212/g, "-").replace(/,(?=\d)/g, ""));
  }

  function compare(one, other, names, sign) {
    if (names) return sign * one.localeCompare(other);
    const [first, second] = [number(one), number(other)];
    if (isNaN(first) || isNaN(second)) return isNaN(first) - isNaN(second);
    return sign * (first - second);
  }

  function prepare(table) {
    const body = table.tBodies[0];
    const original = Array.from(body.rows);
    const all = headings(table);
    all.forEach(function ([heading, column]) {
      const button = document.createElement("button");
      const names = heading.classList.contains("label");
      const orders = names ? ["ascending", "descending", "none"] : ["descending", "ascending", "none"];
      button.type = "button";
      button.className = "sort";
      button.title = "Sort by this column";
      button.append(...heading.childNodes);
      heading.append(button);
      heading.setAttribute("aria-sort", "none");
      button.addEventListener("click", function () {
        const next = orders[(orders.indexOf(heading.getAttribute("aria-sort")) + 1) % 3];
        all.forEach(function ([other]) { other.setAttribute("aria-sort", "none"); });
        heading.setAttribute("aria-sort", next);
        const sign = next === "ascending" ? 1 : -1;
        const rows = original.slice();
        if (next !== "none") {
          rows.sort(function (a, b) { return compare(text(a, column), text(b, column), names, sign); });
        }
        body.append(...rows);
      });
    });
  }

  function start() {
    document.querySelectorAll("table.study.sortable").forEach(prepare);
  }

  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
})();
