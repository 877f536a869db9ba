// Conversations: the list and a transcript side by side where there is room, the keyboard, and
// ratings with one click. Without this script, or on a narrow screen, they are two pages.
(function () {
  "use strict";

  const { gettext, interpolate, isPlainClick } = window.gateway;
  const panes = document.querySelector("[data-panes]");
  if (!panes) return;
  const wide = window.matchMedia("(min-width: 1024px)"); // as conversations.css has it
  const opened = panes.querySelector("[data-opened]");
  const transcript = () => document.getElementById("transcript");
  const titles = () => [...panes.querySelectorAll("[data-talk]")];

  // --- Parts that refresh themselves ([data-live]) --------------------------------------------

  // Not in a hidden tab, or while somebody uses the keyboard in it or writes a note.
  function mayRenew(live) {
    if (document.visibilityState !== "visible" || document.querySelector("dialog[open]")) return false;
    return !live.contains(document.activeElement) && !live.querySelector("details[open]");
  }

  document.addEventListener("htmx:configRequest", (event) => {
    const asking = event.detail.elt;
    if (asking.matches("[data-live]") && !mayRenew(asking)) event.preventDefault();
  });
  document.addEventListener("htmx:afterSettle", mark);

  // --- Two panes ------------------------------------------------------------------------------

  // Says in the list which conversation is open, or in the other pane how to open one.
  function mark() {
    const { talkId } = transcript().dataset;
    const hint = transcript().querySelector("[data-hint]");
    if (hint) hint.hidden = false;
    for (const title of titles()) {
      if (title.id === talkId) title.setAttribute("aria-current", "true");
      else title.removeAttribute("aria-current");
    }
  }

  function load(url, id) {
    return htmx.ajax("GET", url, { target: `#${id}`, select: `#${id}`, swap: "outerHTML ignoreTitle:true" });
  }

  let latest = location.pathname; // what is shown, or being loaded
  async function show(url) {
    latest = new URL(url).pathname;
    const before = transcript();
    before.setAttribute("aria-busy", "true");
    try {
      await load(url, "transcript");
    } catch (error) {
      before.removeAttribute("aria-busy");
      gateway.toast(gettext("The gateway could not be reached. Try again in a moment."));
      return;
    }
    if (latest !== new URL(url).pathname) return; // somebody has opened another one meanwhile
    // Nothing came: the page itself says why.
    if (transcript() === before) location.assign(url);
    const title = transcript().querySelector("[data-title]");
    panes.classList.toggle("gw-panes-open", Boolean(title));
    opened.textContent = title ? interpolate(gettext("Opened “%(title)s”."), { title: title.textContent }) : "";
    mark();
  }

  // The list comes beside a transcript that was opened as a page of its own.
  async function fill() {
    const list = panes.querySelector("#talks[data-from]");
    if (!list || !wide.matches) return;
    const url = list.dataset.from;
    delete list.dataset.from; // once
    await load(url, "talks");
    mark();
    const current = panes.querySelector("[data-talk][aria-current]");
    if (current) current.scrollIntoView({ block: "nearest" });
  }

  document.addEventListener("click", (event) => {
    const title = event.target.closest("[data-talk]");
    if (!title || !isPlainClick(event) || !wide.matches) return;
    event.preventDefault();
    title.focus();
    if (title.href !== location.href) history.pushState(null, "", title.href);
    show(title.href);
  });

  window.addEventListener("popstate", () => {
    if (latest !== location.pathname) show(location.href); // otherwise only the fragment changed
  });

  wide.addEventListener("change", fill);
  fill();
  mark();

  // --- The keyboard ---------------------------------------------------------------------------

  const STEPS = { j: 1, ArrowDown: 1, k: -1, ArrowUp: -1 };

  function isTyping(target) {
    return Boolean(target.closest("input, textarea, select, [contenteditable], dialog"));
  }

  // Arrows scroll everywhere else.
  function isForTheList(event) {
    return event.key.length === 1 || event.target === document.body || Boolean(event.target.closest("#talks"));
  }

  document.addEventListener("keydown", (event) => {
    const step = STEPS[event.key];
    if (!step || event.altKey || event.ctrlKey || event.metaKey || event.shiftKey || event.isComposing) return;
    if (isTyping(event.target) || document.querySelector("dialog[open]") || !isForTheList(event)) return;
    const all = titles();
    const at = all.findIndex((title) => title === document.activeElement);
    const from = at < 0 ? all.findIndex((title) => title.hasAttribute("aria-current")) : at;
    const next = all[from < 0 ? 0 : from + step];
    if (!next) return;
    event.preventDefault();
    next.focus();
  });

  // --- Ratings --------------------------------------------------------------------------------

  document.addEventListener("submit", async (event) => {
    const form = event.target;
    if (!form.matches("[data-thumbs]")) return;
    event.preventDefault();
    const { value } = event.submitter;
    try {
      await gateway.post(form.action, { rating: value });
    } catch (error) {
      gateway.tell(error);
      return;
    }
    for (const thumb of form.querySelectorAll("[data-rating]")) {
      const isPressed = thumb.dataset.rating === value;
      thumb.setAttribute("aria-pressed", String(isPressed));
      thumb.value = isPressed ? "0" : thumb.dataset.rating;
    }
  });
})();
