// A field with a list of what it finds (includes/finder.html): the palette and the switcher.
// ARIA's combobox: the focus stays in the field, and aria-activedescendant names the option.
(function () {
  "use strict";

  const { gettext, interpolate } = window.gateway;

  // Between two letters. Each search is a request.
  const PAUSE = 120;

  // What a result does that has no address of its own, by the server's names (dashboard/palette.py).
  const DEEDS = {
    theme: (value) => document.querySelector(`[data-theme-choice="${CSS.escape(value)}"]`).click(),
    log_out: () => document.querySelector("form[data-log-out]").requestSubmit(),
    switch_account: (value) => {
      const form = document.querySelector("form[data-switch-account]");
      form.elements.account.value = value;
      form.requestSubmit();
    },
  };

  function part(tag, className, text) {
    const element = document.createElement(tag);
    element.className = className;
    if (text) element.textContent = text;
    return element;
  }

  // Returns what opens and closes the finder. `leave` is called before a result is followed. With
  // `startsHere`, the first mark is on where the person is, if that is among the results.
  function makeFinder(root, leave, { startsHere = false } = {}) {
    const field = root.querySelector("[role=combobox]");
    const list = root.querySelector("[role=listbox]");
    const note = root.querySelector("[role=status]");
    let options = [];
    let current = -1;
    let running = null;
    let timer = 0;
    // Enter was pressed before the results came.
    let isChoosing = false;

    function mark(index) {
      if (options[current]) options[current].setAttribute("aria-selected", "false");
      current = index;
      const option = options[current];
      if (!option) {
        field.removeAttribute("aria-activedescendant");
        return;
      }
      option.setAttribute("aria-selected", "true");
      field.setAttribute("aria-activedescendant", option.id);
      option.scrollIntoView({ block: "nearest" });
    }

    function makeOption(result, index) {
      const option = part(result.url ? "a" : "div", "gw-finder-option");
      if (result.url) option.href = result.url;
      option.id = `${list.id}-${index}`;
      option.setAttribute("role", "option");
      option.setAttribute("aria-selected", "false");
      option.tabIndex = -1;
      option.result = result;
      const icon = part("span", "material-symbols-outlined", result.icon);
      icon.setAttribute("aria-hidden", "true");
      const title = part("span", "gw-finder-title", result.title);
      title.dir = "auto";
      option.append(icon, title);
      if (result.note) option.append(part("span", "gw-finder-about", result.note));
      return option;
    }

    function show(results) {
      const groups = new Map();
      options = results.map(makeOption);
      for (const option of options) {
        const name = option.result.group;
        if (!groups.has(name)) {
          const group = part("div", "gw-finder-group");
          group.setAttribute("role", "group");
          group.setAttribute("aria-label", name);
          const head = part("div", "gw-finder-head", name);
          head.setAttribute("aria-hidden", "true");
          group.append(head);
          groups.set(name, group);
        }
        groups.get(name).append(option);
      }
      list.replaceChildren(...groups.values());
      list.hidden = !options.length;
      list.scrollTop = 0;
      field.setAttribute("aria-expanded", String(Boolean(options.length)));
      current = -1;
      const here = startsHere && !field.value.trim() ? results.findIndex(({ url }) => url && location.pathname.startsWith(url)) : -1;
      if (here >= 0) options[here].setAttribute("aria-current", "true");
      mark(options.length ? Math.max(here, 0) : -1);
    }

    async function load() {
      if (running) running.abort();
      const mine = new AbortController();
      running = mine;
      const url = new URL(root.dataset.finder, location.href);
      const term = field.value.trim();
      url.searchParams.set("s", term);
      try {
        const more = { method: "GET", body: undefined, signal: mine.signal };
        const response = await window.gateway.request(url, {}, more);
        if (!response.ok) throw new Error(`status ${response.status}`);
        const { results } = await response.json();
        show(results);
        note.textContent = results.length ? "" : interpolate(gettext("Nothing found for “%(term)s”."), { term });
      } catch (error) {
        if (error.name === "AbortError") return;
        show([]);
        note.textContent = error.isLoggedOut ? gettext("You are logged out.") : gettext("The search failed. Try again.");
      }
      running = null;
      if (isChoosing) choose(options[current], {});
      isChoosing = false;
    }

    function choose(option, event) {
      if (!option) return;
      const { does, value, url } = option.result;
      leave();
      if (does) DEEDS[does](value);
      else if (event.ctrlKey || event.metaKey) window.open(url);
      else location.assign(url);
    }

    field.addEventListener("input", () => {
      clearTimeout(timer);
      if (running) running.abort();
      running = null;
      isChoosing = false;
      timer = setTimeout(() => {
        timer = 0;
        load();
      }, PAUSE);
    });

    field.addEventListener("keydown", (event) => {
      if (event.isComposing) return;
      if (event.key === "ArrowDown" || event.key === "ArrowUp") {
        event.preventDefault();
        const step = event.key === "ArrowDown" ? 1 : options.length - 1;
        if (options.length) mark((Math.max(current, 0) + step) % options.length);
      }
      if (event.key === "Enter") {
        event.preventDefault();
        if (timer || running) isChoosing = true;
        else choose(options[current], event);
      }
    });

    list.addEventListener("click", (event) => {
      const option = event.target.closest("[role=option]");
      // A click that opens a tab or window is the browser's.
      if (!option || (option.href && (event.ctrlKey || event.metaKey || event.shiftKey))) return;
      event.preventDefault();
      choose(option, event);
    });
    // The focus stays in the field.
    list.addEventListener("mousedown", (event) => event.preventDefault());

    return {
      open() {
        field.value = "";
        field.focus();
        load();
      },
      close() {
        clearTimeout(timer);
        timer = 0;
        if (running) running.abort();
        running = null;
        isChoosing = false;
        show([]);
        note.textContent = "";
      },
    };
  }

  function makePalette(dialog) {
    const finder = makeFinder(dialog.querySelector("[data-finder]"), () => dialog.close());
    const open = () => {
      if (dialog.open) return;
      dialog.showModal();
      finder.open();
    };
    dialog.addEventListener("close", () => finder.close());
    // The dialog's own box is its backdrop.
    dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
    document.addEventListener("keydown", (event) => {
      if ((event.ctrlKey || event.metaKey) && !event.shiftKey && !event.altKey && event.key.toLowerCase() === "k") {
        event.preventDefault();
        if (dialog.open) dialog.close();
        else open();
      }
    });
    document.addEventListener("click", (event) => event.target.closest("[data-palette-open]") && open());
  }

  function makeSwitcher(menu) {
    const finder = makeFinder(menu.querySelector("[data-finder]"), () => (menu.open = false), { startsHere: true });
    menu.addEventListener("toggle", () => (menu.open ? finder.open() : finder.close()));
  }

  document.addEventListener("DOMContentLoaded", () => {
    for (const dialog of document.querySelectorAll("dialog.gw-palette")) makePalette(dialog);
    for (const menu of document.querySelectorAll("[data-switcher]")) makeSwitcher(menu);
  });
})();
