// What pages do beyond links and forms. Data attributes switch it on, so that a page works as plain
// HTML where possible: see each handler for its attribute.
(function () {
  "use strict";

  // The texts of scripts by language: a catalogue (dashboard/static/dashboard/texts) is loaded before
  // this file. English is written here and in the other scripts.
  const catalogue = window.gatewayTexts || { plural: (n) => Number(n !== 1), texts: {} };

  function gettext(text) {
    return catalogue.texts[text] || text;
  }

  function ngettext(one, many, count) {
    return (catalogue.texts[one] || [one, many])[catalogue.plural(count)];
  }

  // interpolate("%(count)s of %(all)s", { count: 1, all: 2 })
  function interpolate(text, values) {
    return text.replace(/%\((\w+)\)s/g, (match, name) => String(values[name]));
  }

  // Present from the start, because a text that appears together with its live region is not read out.
  const toasts = document.createElement("div");
  toasts.className = "gw-toasts";
  toasts.setAttribute("role", "status");
  document.addEventListener("DOMContentLoaded", () => document.body.append(toasts));

  // Shows a text for a moment, and returns its line. `more` is a link ({ text, href }) or a button
  // ({ text, act }) behind the text. With it, the line stays longer, and as long as somebody is at it.
  function toast(text, more) {
    const line = document.createElement("div");
    line.className = "gw-toast";
    line.textContent = text;
    if (more) {
      const part = document.createElement(more.act ? "button" : "a");
      if (more.act) {
        part.type = "button";
        part.addEventListener("click", more.act);
      } else {
        part.href = more.href;
      }
      part.textContent = more.text;
      line.append(" ", part);
    }
    const leave = () => {
      if (line.matches(":hover, :focus-within")) setTimeout(leave, 4000);
      else line.remove();
    };
    toasts.append(line);
    setTimeout(leave, more ? 30_000 : 4000);
    return line;
  }

  function csrfToken() {
    const field = document.querySelector("[name=csrfmiddlewaretoken]");
    return field ? field.value : "";
  }

  // Why a request failed, in words for the person at the page.
  class Refusal extends Error {
    constructor(message, more) {
      super(message);
      Object.assign(this, { isLoggedOut: false, isLeaving: false }, more);
    }
  }

  const LOGGED_OUT = gettext("You are logged out. Nothing was changed.");
  const BECAUSE = {
    403: gettext("Your login has changed or is no longer allowed to do this. Reload the page."),
    404: gettext("This no longer exists. Reload the page."),
  };

  // Sends a form's fields and returns the response. Only a log-in that has ended redirects a
  // script's request: followed, it would look like an answer. Throws Refusal.
  async function request(url, fields, options) {
    let response;
    try {
      response = await fetch(url, {
        method: "POST",
        body: new URLSearchParams(fields || {}),
        redirect: "manual",
        headers: { "X-CSRFToken": csrfToken(), Accept: "application/json" },
        ...options,
      });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Refusal(gettext("The gateway could not be reached. Try again in a moment."));
    }
    if (response.type === "opaqueredirect" || response.status === 401) {
      throw new Refusal(LOGGED_OUT, { isLoggedOut: true });
    }
    return response;
  }

  // Sends a form's fields and returns the JSON of the answer. Throws Refusal for any other answer.
  async function post(url, fields) {
    const response = await request(url, fields);
    const isJson = (response.headers.get("Content-Type") || "").includes("json");
    const answer = isJson ? await response.json().catch(() => null) : null;
    if (answer && answer.redirect) {
      location.assign(answer.redirect);
      throw new Refusal("", { isLeaving: true });
    }
    if (response.ok && answer) return answer;
    const other = gettext("The gateway could not do this (status %(status)s). Try again.");
    const words = BECAUSE[response.status] || interpolate(other, { status: response.status });
    throw new Refusal((answer && answer.error) || words);
  }

  // Says why a request was refused.
  function tell(error) {
    if (error.isLeaving) return;
    if (error.isLoggedOut) toast(error.message, { href: location.pathname + location.search, text: gettext("Log in again") });
    else toast(error instanceof Refusal ? error.message : gettext("Something broke. Reload the page and try again."));
  }

  // Parts of a page that refresh themselves stay as they are once the log-in has ended.
  let isLoggedOut = false;
  document.addEventListener("htmx:beforeRequest", (event) => {
    if (isLoggedOut) event.preventDefault();
  });
  document.addEventListener("htmx:beforeSwap", (event) => {
    const { xhr, requestConfig } = event.detail;
    const asked = new URL(requestConfig.path, location.href).pathname;
    if (!xhr.responseURL || new URL(xhr.responseURL).pathname === asked) return;
    event.detail.shouldSwap = false;
    isLoggedOut = true;
    tell(new Refusal(gettext("You are logged out."), { isLoggedOut: true }));
  });

  async function copy(text) {
    if (navigator.clipboard && window.isSecureContext) {
      await navigator.clipboard.writeText(text);
      return;
    }
    // Plain http on a local network has no clipboard API.
    const area = document.createElement("textarea");
    area.value = text;
    area.style.position = "fixed";
    area.style.opacity = "0";
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }

  // Numbers as the page's language writes them.
  const language = document.documentElement.lang || "en";

  // Writes an amount of the API ("1234.500000") as pages do: 1,234.5.
  function credits(text) {
    return Number(text).toLocaleString(language, { maximumFractionDigits: 6 });
  }

  // Writes seconds to wait in hours and minutes: 80016 is "22 h 14 min".
  function wait(seconds) {
    if (seconds < 120) return interpolate(gettext("%(seconds)s s"), { seconds });
    const minutes = Math.ceil(seconds / 60);
    if (minutes < 120) return interpolate(gettext("%(minutes)s min"), { minutes });
    const named = { hours: Math.floor(minutes / 60), minutes: minutes % 60 };
    return interpolate(gettext("%(hours)s h %(minutes)s min"), named);
  }

  // Writes three digits, as common/pages/durations.py does.
  function duration(milliseconds) {
    const ms = Math.round(milliseconds);
    if (!ms) return interpolate(gettext("under %(figure)s"), { figure: "1\u00a0ms" });
    if (ms < 1000) return `${ms}\u00a0ms`;
    const digits = ms < 10000 ? 2 : ms < 100000 ? 1 : 0;
    return `${(ms / 1000).toLocaleString(language, { maximumFractionDigits: digits })}\u00a0s`;
  }

  window.gateway = { language, gettext, ngettext, interpolate, toast, request, post, tell, copy, credits, duration, wait, wake, isPlainClick };

  // unfold copies the name of a chosen file into a text field, which its own forms have and ours lack.
  document.addEventListener("change", (event) => {
    if (event.target.matches(".gw-field > input[type=file]")) event.stopImmediatePropagation();
  }, true);

  document.addEventListener("click", async (event) => {
    // data-copy="text", or data-copy-from="#id" for the text of an element.
    const copier = event.target.closest("[data-copy], [data-copy-from]");
    if (copier) {
      const source = copier.dataset.copyFrom && document.querySelector(copier.dataset.copyFrom);
      await copy(source ? source.textContent.trim() : copier.dataset.copy);
      toast(copier.dataset.copied || gettext("Copied."));
      return;
    }
    if (event.target.closest("[data-print]")) {
      window.print();
      return;
    }
    // data-dialog="#id" opens a <dialog>; data-close closes the one around it.
    const opener = event.target.closest("[data-dialog]");
    if (opener) {
      event.preventDefault();
      const dialog = document.querySelector(opener.dataset.dialog);
      if (dialog) dialog.showModal();
      return;
    }
    const closer = event.target.closest("[data-close]");
    if (closer) {
      event.preventDefault();
      closer.closest("dialog").close();
      return;
    }
    // data-tab="panel-id" in a [role=tablist].
    const tab = event.target.closest("[role=tab][data-tab]");
    if (tab) selectTab(tab);
    // data-row leads where its first link does. Other links and buttons in it do their own, and
    // whoever selects text in it stays.
    const row = event.target.closest("[data-row]");
    if (row && isPlainClick(event) && !event.target.closest("a, button") && getSelection().isCollapsed) {
      row.querySelector("a[href]").click();
    }
  });

  function isPlainClick(event) {
    return !(event.button || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey);
  }

  function selectTab(tab) {
    const tabs = [...tab.closest("[role=tablist]").querySelectorAll("[role=tab]")];
    for (const one of tabs) {
      const isChosen = one === tab;
      one.setAttribute("aria-selected", String(isChosen));
      one.tabIndex = isChosen ? 0 : -1;
      document.getElementById(one.dataset.tab).hidden = !isChosen;
    }
  }

  document.addEventListener("keydown", (event) => {
    const tab = event.target.closest && event.target.closest("[role=tab][data-tab]");
    if (tab && (event.key === "ArrowRight" || event.key === "ArrowLeft")) {
      const tabs = [...tab.closest("[role=tablist]").querySelectorAll("[role=tab]")];
      const step = event.key === "ArrowRight" ? 1 : tabs.length - 1;
      const next = tabs[(tabs.indexOf(tab) + step) % tabs.length];
      selectTab(next);
      next.focus();
      event.preventDefault();
    }
    if (event.key === "Escape") {
      const menu = event.target.closest && event.target.closest("details.gw-menu[open]");
      if (menu) {
        menu.open = false;
        menu.querySelector("summary").focus();
      }
    }
  });

  // Menus close when something else is clicked.
  document.addEventListener("click", (event) => {
    for (const menu of document.querySelectorAll("details.gw-menu[open]")) {
      if (!menu.contains(event.target)) menu.open = false;
    }
  });

  // A form is sent once: its buttons are disabled until the next page. Forms that scripts send
  // (data-again) are left alone.
  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (event.defaultPrevented || form.method !== "post" || form.dataset.again !== undefined) return;
    if (form.dataset.sent) {
      event.preventDefault();
      return;
    }
    form.dataset.sent = "yes";
    setTimeout(() => {
      for (const button of form.querySelectorAll("button[type=submit], button:not([type])")) {
        button.disabled = true;
      }
    });
  });
  function wake() {
    for (const form of document.querySelectorAll("form[data-sent]")) {
      delete form.dataset.sent;
      for (const button of form.querySelectorAll("button")) button.disabled = false;
    }
  }
  window.addEventListener("pageshow", (event) => {
    if (event.persisted) wake();
  });

  // data-count="#id": shows in the element how many characters a text field has.
  function count(field) {
    const target = document.querySelector(field.dataset.count);
    const most = field.maxLength > 0 ? ` / ${field.maxLength.toLocaleString(language)}` : "";
    target.textContent = `${[...field.value].length.toLocaleString(language)}${most}`;
  }
  document.addEventListener("input", (event) => {
    if (event.target.dataset && event.target.dataset.count) count(event.target);
    // data-autosubmit on a select or date field: filters apply themselves.
    if (event.target.matches("[data-autosubmit]") && event.target.form) event.target.form.requestSubmit();
  });
  // data-scroll-to-current: scrolls tabs sideways so that the current one is visible, and fades them
  // where there are more.
  function hintAtMore(bar) {
    bar.classList.toggle("gw-more-before", bar.scrollLeft > 1);
    bar.classList.toggle("gw-more-after", bar.scrollLeft < bar.scrollWidth - bar.clientWidth - 1);
  }
  function showCurrentTabs() {
    for (const bar of document.querySelectorAll("[data-scroll-to-current]")) {
      const current = bar.querySelector("[aria-current]");
      if (current) bar.scrollLeft = current.offsetLeft - bar.offsetLeft - (bar.clientWidth - current.offsetWidth) / 2;
      hintAtMore(bar);
    }
  }
  document.addEventListener("DOMContentLoaded", () => {
    showCurrentTabs();
    for (const bar of document.querySelectorAll("[data-scroll-to-current]")) {
      bar.addEventListener("scroll", () => hintAtMore(bar), { passive: true });
      new ResizeObserver(() => hintAtMore(bar)).observe(bar);
    }
    // Their widths change with the fonts.
    document.fonts.ready.then(showCurrentTabs);
    for (const field of document.querySelectorAll("[data-count]")) count(field);
  });
})();
