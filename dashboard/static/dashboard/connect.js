// The Connect tab: inserts a key into all snippets at once, and makes a call to test a key.
(function () {
  "use strict";

  const { gettext, interpolate } = window.gateway;
  const PLACEHOLDER = "YOUR_API_KEY";

  function fill(key) {
    for (const slot of document.querySelectorAll("[data-api-key]")) slot.textContent = key;
  }

  function show(button, isShown) {
    button.setAttribute("aria-pressed", String(isShown));
    button.querySelector("[data-label]").textContent = isShown ? gettext("Hide in the code") : gettext("Show in the code");
  }

  // data-reveal="url": asks for the key only now, and keeps it only in the snippets.
  document.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-reveal]");
    if (!button) return;
    const isShown = button.getAttribute("aria-pressed") === "true";
    for (const other of document.querySelectorAll("[data-reveal]")) show(other, false);
    fill(PLACEHOLDER);
    if (isShown) return;
    button.disabled = true;
    try {
      // Where to return after a log-in, if one is needed first.
      const { key } = await gateway.post(button.dataset.reveal, { next: location.pathname });
      fill(key);
      show(button, true);
      gateway.toast(gettext("The code below now contains the key."));
    } catch (error) {
      gateway.tell(error);
    } finally {
      button.disabled = false;
    }
  });

  function line(name, text) {
    const term = document.createElement("dt");
    const value = document.createElement("dd");
    term.textContent = name;
    value.textContent = text;
    return [term, value];
  }

  // Shows how much of the time the provider took.
  function timing(result) {
    const box = document.createElement("div");
    box.className = "gw-timing";
    const parts = [[gettext("Provider"), Math.min(result.provider_ms, result.latency_ms)]];
    parts.push([gettext("Gateway"), result.latency_ms - parts[0][1]]);
    const bar = document.createElement("div");
    bar.className = "gw-timing-bar";
    bar.setAttribute("aria-hidden", "true");
    const key = document.createElement("div");
    key.className = "gw-timing-key gw-small";
    for (const [name, ms] of parts) {
      const piece = document.createElement("span");
      piece.style.setProperty("--gw-share", ms || 0.01);
      bar.append(piece);
      const words = document.createElement("span");
      words.textContent = `${name} ${gateway.duration(ms)}`;
      key.append(words);
    }
    box.append(bar, key);
    return box;
  }

  // A panel beside the keys is hidden until it has a result.
  function openPanel(target, form) {
    const panel = target.closest("[data-test-panel]");
    if (!panel) return;
    panel.hidden = false;
    // Where the focus goes when the panel is closed: the menu of this key.
    const dialog = form.closest("dialog");
    const item = dialog ? document.querySelector(`[data-dialog="#${dialog.id}"]`) : form;
    panel.opener = item.closest("details").querySelector("summary");
    panel.querySelector("[data-test-name]").textContent = form.dataset.testName;
    for (const menu of document.querySelectorAll("details.gw-menu[open]")) menu.open = false;
    panel.querySelector("[tabindex]").focus({ preventScroll: true });
    panel.scrollIntoView({ block: "nearest" });
  }

  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-close-panel]");
    if (!button) return;
    const panel = button.closest("[data-test-panel]");
    panel.hidden = true;
    panel.opener.focus();
  });

  function describe(result) {
    const box = document.createElement("div");
    const isGood = result.status === 200;
    box.className = `gw-alert ${isGood ? "gw-alert-ok" : "gw-alert-bad"}`;
    const list = document.createElement("dl");
    list.className = "gw-kv";
    list.append(...line(gettext("Status"), isGood ? gettext("200: the key works") : `${result.status} ${result.code}`));
    if (!isGood) list.append(...line(gettext("Because"), result.error));
    if (result.retry_after) list.append(...line(gettext("Try again in"), gateway.wait(result.retry_after)));
    list.append(...line(gettext("Time"), gateway.duration(result.latency_ms)));
    if (isGood) {
      list.append(...line(gettext("Tokens"), interpolate(gettext("%(input)s in, %(output)s out"), { input: result.usage.prompt_tokens, output: result.usage.completion_tokens })));
      list.append(...line(gettext("Credits"), interpolate(gettext("%(charged)s charged, %(left)s left"), { charged: gateway.credits(result.credits.charged), left: gateway.credits(result.credits.remaining) })));
      list.append(...line(gettext("Provider"), result.provider));
      list.append(...line(gettext("Reply"), result.reply));
    }
    list.append(...line(gettext("Request id"), result.request_id));
    if (isGood) box.append(timing(result));
    box.append(list);
    return box;
  }

  // data-test-key="#result" on a form: sends it and shows the result in the element.
  document.addEventListener("submit", async (event) => {
    const form = event.target.closest("[data-test-key]");
    if (!form) return;
    event.preventDefault();
    const target = document.querySelector(form.dataset.testKey);
    const button = form.querySelector("button:not([type=button])");
    const busy = document.createElement("span");
    busy.className = "gw-busy";
    busy.setAttribute("aria-label", gettext("Asking"));
    target.replaceChildren(busy);
    button.disabled = true;
    const dialog = form.closest("dialog");
    if (dialog) dialog.close();
    openPanel(target, form);
    try {
      target.replaceChildren(describe(await gateway.post(form.action, new FormData(form))));
    } catch (error) {
      target.replaceChildren();
      const panel = target.closest("[data-test-panel]");
      if (panel) panel.hidden = true;
      gateway.tell(error);
    } finally {
      button.disabled = false;
    }
  });
})();

// The page that waits for the first call does not ask while nobody sees it.
document.addEventListener("htmx:beforeRequest", (event) => {
  if (document.hidden && event.target.id === "first-call") event.preventDefault();
});
