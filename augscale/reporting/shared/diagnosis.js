"use strict";
(() => {
  const read = (id) => JSON.parse(document.getElementById(id)?.textContent ?? "null");
  const images = read("images-data") ?? [];
  const thumbnails = read("thumbnails-data") ?? {};

  // Each thumbnail is in the page once; whoever shows it refers to it by the row of its image.
  for (const img of document.querySelectorAll("img[data-image]")) {
    const source = thumbnails[img.dataset.image];
    if (source) img.src = source;
  }

  for (const tabs of document.querySelectorAll(".tabs")) {
    const buttons = [...tabs.querySelectorAll("button")];
    const panel = (button) => document.getElementById(button.getAttribute("aria-controls"));
    const show = (chosen) => {
      for (const button of buttons) {
        button.setAttribute("aria-selected", button === chosen);
        button.tabIndex = button === chosen ? 0 : -1;
        panel(button).hidden = button !== chosen;
      }
      panel(chosen).dispatchEvent(new CustomEvent("shown", { bubbles: true }));
    };
    tabs.addEventListener("click", (event) => {
      const button = event.target.closest("button");
      if (button) show(button);
    });
    tabs.addEventListener("keydown", (event) => {
      const move = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!move) return;
      const at = buttons.indexOf(document.activeElement);
      const next = buttons[(at + move + buttons.length) % buttons.length];
      next.focus();
      show(next);
    });
    show(buttons[0]);
  }

  // Names and labels come from files: they only ever become text.
  const peek = document.createElement("figure");
  peek.className = "peek";
  peek.hidden = true;
  const picture = document.createElement("img");
  picture.alt = "";
  const caption = document.createElement("figcaption");
  peek.append(picture, caption);
  document.body.append(peek);

  function line(tag, words) {
    const element = document.createElement(tag);
    element.textContent = words;
    return element;
  }

  function showPeek(row, event) {
    const image = images[row];
    if (!image) return;
    const source = thumbnails[row];
    picture.hidden = !source;
    if (source) picture.src = source;
    caption.replaceChildren(line("b", image.id));
    if (image.label !== null) caption.append(line("span", "label " + image.label));
    if (image.patient !== "") caption.append(line("span", "patient " + image.patient));
    peek.hidden = false;
    const width = peek.offsetWidth, height = peek.offsetHeight, gap = 16;
    // A tap comes as a touch event, whose place is that of the finger.
    const { clientX, clientY } = event.touches?.[0] ?? event.changedTouches?.[0] ?? event;
    const left = clientX + gap + width > innerWidth ? clientX - gap - width : clientX + gap;
    const top = clientY + gap + height > innerHeight ? clientY - gap - height : clientY + gap;
    peek.style.left = Math.max(8, Math.min(left, innerWidth - width - 8)) + "px";
    peek.style.top = Math.max(8, top) + "px";
  }

  let pointed = null;

  function hidePeek() {
    peek.hidden = true;
  }

  document.addEventListener("drawn", ({ target }) => {
    if (target.dataset.peeks) return;
    target.dataset.peeks = "yes";
    const show = ({ points, event }) => {
      const row = points[0]?.customdata;
      if (row === undefined || !event) return;
      pointed = target;
      showPeek(row, event);
    };
    target.on("plotly_hover", show);
    target.on("plotly_click", show);
    target.on("plotly_unhover", hidePeek);
  });
  addEventListener("scroll", () => {
    if (peek.hidden) return;
    hidePeek();
    // Else plotly, for which the point is still pointed at, would not report it again.
    Plotly.Fx.unhover(pointed);
  }, { passive: true });
  document.addEventListener("pointerdown", ({ target }) => {
    if (!target.closest(".drawing")) hidePeek();
  });
})();
