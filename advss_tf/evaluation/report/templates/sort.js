// Sorts the records of a table by a click on a column's head. The heads become buttons, so Enter, Space and the Tab key
// work as everywhere. Records keep the order in which they were written where they are equal, and those without a value
// stand last. What each record is sorted by stands in its data-keys.
(() => {
  "use strict";
  const words = new Intl.Collator(undefined, { numeric: true });
  const compare = (one, other) => (typeof one === "number" ? one - other : words.compare(one, other));
  const opposite = { ascending: "descending", descending: "ascending" };

  const makeSortable = (table) => {
    const heads = [...table.tHead.rows[0].cells];
    const records = [...table.tBodies].map((body, place) => ({ body, place, keys: JSON.parse(body.dataset.keys) }));

    const sort = (column, order) => {
      const sign = order === "ascending" ? 1 : -1;
      records.sort(({ keys: one, place }, { keys: other, place: second }) => {
        const [left, right] = [one[column], other[column]];
        if (left === null || right === null) return (left === null) - (right === null) || place - second;
        return sign * compare(left, right) || place - second;
      });
      table.append(...records.map(({ body }) => body));
      heads.forEach((head, number) => {
        if (number === column) head.setAttribute("aria-sort", order);
        else head.removeAttribute("aria-sort");
      });
    };

    heads.forEach((head, column) => {
      if (!head.dataset.first) return;
      const button = document.createElement("button");
      button.type = "button";
      button.title = "Sort by this column";
      button.append(...head.childNodes);
      button.addEventListener("click", () => sort(column, opposite[head.getAttribute("aria-sort")] || head.dataset.first));
      head.append(button);
    });
  };

  document.querySelectorAll("table:has(tbody[data-keys])").forEach(makeSortable);
})();
