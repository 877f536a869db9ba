// Keeps what somebody types in this tab until it is saved, even if the log-in ends meanwhile, the
// form is refused, or the page is closed.
//   form[data-keep]   kept while typed, put back when the form is shown again; data-keep="message"
//                     keeps only these fields. Passwords and files are never kept.
//   form[data-guard]  asks before somebody leaves the page with unsaved changes
//   form[data-unsaved]  shows a refused form: unsaved from the start
//   [data-save-bar]   in such a form: its buttons, which stick to the foot of the window while there
//                     are unsaved changes. Ctrl+S presses the first.
// [data-saved] on a page says that the form sent before was accepted.
(function () {
  "use strict";

  const { gettext } = window.gateway;
  const PREFIX = "gateway.draft:";
  const NEVER = ["password", "file", "submit", "button"];

  function read(key) {
    try {
      return JSON.parse(sessionStorage.getItem(key));
    } catch (error) {
      return null; // storage can be forbidden, or hold another program's text
    }
  }

  function write(key, draft) {
    try {
      if (draft) sessionStorage.setItem(key, JSON.stringify(draft));
      else sessionStorage.removeItem(key);
    } catch (error) {
      // Storage is forbidden or full: nothing is kept.
    }
  }

  function keys() {
    try {
      return Object.keys(sessionStorage).filter((key) => key.startsWith(PREFIX));
    } catch (error) {
      return [];
    }
  }

  function user() {
    const main = document.getElementById("gw-main");
    return (main && main.dataset.user) || "";
  }

  function keyOf(form) {
    return PREFIX + new URL(form.getAttribute("action") || location.href, location.href).pathname;
  }

  function kept(form) {
    const only = (form.dataset.keep || "").split(" ").filter(Boolean);
    return [...form.elements].filter(
      (field) =>
        field.name && field.name !== "csrfmiddlewaretoken" && !NEVER.includes(field.type) && (!only.length || only.includes(field.name)),
    );
  }

  function isChoice(field) {
    return field.type === "radio" || field.type === "checkbox";
  }

  // Pairs of name and value. A choice has a pair for each chosen value.
  function valuesOf(form) {
    return kept(form)
      .filter((field) => !isChoice(field) || field.checked)
      .map((field) => [field.name, field.value]);
  }

  // Only visible fields, because hidden ones are new on each page.
  function seen(form, values) {
    const hidden = new Set(kept(form).filter((field) => field.type === "hidden").map((field) => field.name));
    return JSON.stringify(values.filter(([name]) => !hidden.has(name)));
  }

  function putBack(form, values) {
    for (const field of kept(form)) {
      const found = values.filter(([name]) => name === field.name).map(([, value]) => value);
      if (isChoice(field)) field.checked = found.includes(field.value);
      else if (found.length) field.value = found[0];
      const folded = field.closest("details:not([open])");
      if (folded && field.value !== field.defaultValue) folded.open = true;
      if (field.dataset.count) field.dispatchEvent(new Event("input", { bubbles: true }));
    }
  }

  function notice(form) {
    const box = document.createElement("div");
    box.className = "gw-alert gw-alert-warn gw-row-between";
    box.setAttribute("role", "status");
    const words = document.createElement("span");
    words.textContent = gettext("Your unsaved changes are back in this form. They are not saved yet.");
    const button = document.createElement("button");
    button.type = "button";
    button.className = "gw-btn gw-btn-small";
    button.textContent = gettext("Discard changes");
    button.addEventListener("click", () => {
      forget(form);
      location.assign(location.pathname + location.search);
    });
    box.append(words, button);
    form.prepend(box);
  }

  function forget(form) {
    write(keyOf(form), null);
    form.gwIsLeaving = true;
  }

  function begin(form) {
    if (form.gwAtFirst !== undefined) return;
    const values = valuesOf(form);
    form.gwAtFirst = seen(form, values);
    const key = keyOf(form);
    const draft = read(key);
    if (!draft) return;
    if (form.dataset.unsaved !== undefined) {
      // The page already has what was typed, with newer hidden values.
      write(key, { user: user(), values, isSent: false });
    } else if (seen(form, draft.values) === form.gwAtFirst) {
      write(key, null);
    } else {
      putBack(form, draft.values);
      notice(form);
    }
  }

  function beginAll() {
    for (const form of document.querySelectorAll("form[data-keep]")) {
      begin(form);
      showSaveBar(form);
    }
  }

  function showSaveBar(form) {
    const bar = form.querySelector("[data-save-bar]");
    if (!bar) return;
    const isOn = isUnsaved(form);
    if (isOn === bar.classList.contains("gw-save-on")) return;
    bar.classList.toggle("gw-save-on", isOn);
    bar.querySelector("[data-save-words]").textContent = isOn ? "Unsaved changes" : "";
    bar.querySelector("[data-discard]").hidden = !isOn;
  }

  document.addEventListener("DOMContentLoaded", () => {
    const isSaved = Boolean(document.querySelector("[data-saved]"));
    for (const key of keys()) {
      const draft = read(key);
      // A page without a user is the log-in page, or says what went wrong.
      if (!draft || (user() && (draft.user !== user() || (draft.isSent && isSaved)))) write(key, null);
      else if (draft.isSent) write(key, { ...draft, isSent: false });
    }
    if (user()) beginAll();
    document.addEventListener("htmx:afterSettle", beginAll);
  });

  document.addEventListener("input", (event) => {
    const form = event.target.form;
    if (!form || form.dataset.keep === undefined || !user()) return;
    form.gwIsLeaving = false;
    write(keyOf(form), { user: user(), values: valuesOf(form), isSent: false });
    showSaveBar(form);
  });

  document.addEventListener("keydown", (event) => {
    const isSave = event.key.toLowerCase() === "s" && (event.ctrlKey || event.metaKey) && !event.altKey && !event.shiftKey;
    const button = isSave && document.querySelector(".gw-save-on button");
    if (!button || document.querySelector("dialog[open]")) return;
    event.preventDefault();
    button.click();
  });

  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (event.defaultPrevented) return;
    if (/\/log-?out\//.test(form.getAttribute("action") || "")) for (const key of keys()) write(key, null);
    if (form.dataset.keep === undefined || form.method !== "post") return;
    form.gwIsLeaving = true;
    write(keyOf(form), { user: user(), values: valuesOf(form), isSent: true });
  });

  function isUnsaved(form) {
    if (form.gwIsLeaving || form.gwAtFirst === undefined) return false;
    return form.dataset.unsaved !== undefined || seen(form, valuesOf(form)) !== form.gwAtFirst;
  }

  window.addEventListener("beforeunload", (event) => {
    if (![...document.querySelectorAll("form[data-guard]")].some(isUnsaved)) return;
    event.preventDefault();
    event.returnValue = true;
    // People who stay can use the buttons again.
    setTimeout(window.gateway.wake);
  });
  // data-discard on a link: leaves the page and discards what was typed.
  document.addEventListener("click", (event) => {
    if (!event.target.closest("[data-discard]")) return;
    for (const form of document.querySelectorAll("form[data-keep]")) forget(form);
  });

  window.gateway.forget = forget;
})();
