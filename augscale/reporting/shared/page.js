"use strict";
(() => {
  const dark = JSON.parse(document.getElementById("dark-colors").textContent);
  const scheme = matchMedia("(prefers-color-scheme: dark)");
  const drawings = [...document.querySelectorAll(".drawing")];
  const PRINT_WIDTH = 660;

  function read(drawing, isDark) {
    const text = document.getElementById(drawing.id + "-data").textContent;
    return JSON.parse(isDark ? text.replace(/#[0-9a-f]{6}/g, (color) => dark[color] ?? color) : text);
  }

  // A saved figure goes into a paper, so it always has the light colors.
  function save(drawing) {
    const { data, layout } = read(drawing, false);
    Object.assign(layout, { width: drawing.clientWidth, paper_bgcolor: "#ffffff" });
    Plotly.downloadImage({ data, layout }, { format: "svg", filename: "augscale-" + drawing.id });
  }

  function draw({ forPrint = false, within = document } = {}) {
    for (const drawing of drawings) {
      // A drawing on a hidden tab has no width yet; it is drawn when its tab is shown.
      if (!within.contains(drawing) || drawing.offsetParent === null) continue;
      const { data, layout } = read(drawing, scheme.matches && !forPrint);
      if (forPrint) layout.width = Math.min(drawing.clientWidth, PRINT_WIDTH);
      layout.dragmode = matchMedia("(pointer: fine)").matches ? "zoom" : false;
      Plotly.react(drawing, data, layout, { responsive: !forPrint, displayModeBar: false });
      drawing.dispatchEvent(new CustomEvent("drawn", { bubbles: true }));
    }
  }

  function sortBy(table, column, ascending) {
    const body = table.tBodies[0];
    const value = (row) => row.cells[column].dataset.value;
    const compare = (a, b) => {
      if (a === "" || b === "") return (a === "") - (b === "");  // empty cells last, either way
      const difference = isNaN(a) || isNaN(b) ? a.localeCompare(b) : a - b;
      return ascending ? difference : -difference;
    };
    body.append(...[...body.rows].sort((a, b) => compare(value(a), value(b))));
    [...table.tHead.rows[0].cells].forEach((cell, index) => {
      if (index === column) cell.setAttribute("aria-sort", ascending ? "ascending" : "descending");
      else cell.removeAttribute("aria-sort");
    });
  }

  for (const table of document.querySelectorAll("table.sortable")) {
    [...table.tHead.rows[0].cells].forEach((cell, column) => {
      cell.querySelector("button").addEventListener("click", () => {
        const now = cell.getAttribute("aria-sort");
        const first = cell.dataset.first === "descending" ? "descending" : "ascending";
        sortBy(table, column, now ? now !== "ascending" : first === "ascending");
      });
    });
  }

  for (const button of document.querySelectorAll("button.copy")) {
    button.addEventListener("click", async () => {
      const code = button.previousElementSibling;
      try {
        await navigator.clipboard.writeText(code.textContent.trim());
        button.textContent = "Copied";
      } catch {
        getSelection().selectAllChildren(code);
        button.textContent = "Selected";
      }
      setTimeout(() => { button.textContent = "Copy"; }, 1500);
    });
  }

  for (const button of document.querySelectorAll("button.save")) {
    button.addEventListener("click", () => save(document.getElementById(button.dataset.plot)));
  }

  draw();
  scheme.addEventListener("change", () => draw());
  document.addEventListener("shown", ({ target }) => draw({ within: target }));
  addEventListener("beforeprint", () => draw({ forPrint: true }));
  addEventListener("afterprint", () => draw());
})();
