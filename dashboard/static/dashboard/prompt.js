// The prompt editor: counts the text's tokens while somebody types, and compares it with the
// published prompt.
//   [data-tokens="#id"]       shows the estimate for the text field
//   [data-most-tokens="#id"]  shows the upper bound, which a message's hold allows for
//   [data-show-changes=URL]   sends its form there, and shows the #prompt-changes of the answer
//   [data-stale]              appears once the text has been edited after a comparison
(function () {
  "use strict";

  const { language, gettext, ngettext, interpolate } = window.gateway;
  // Both count as channels/providers/tokens.py does. A test compares them.
  const CHARACTERS_PER_TOKEN = 4;
  const TEMPLATE_TOKENS_PER_MESSAGE = 5;

  function estimate(text) {
    return Math.ceil([...text].length / CHARACTERS_PER_TOKEN);
  }

  function most(text) {
    return new TextEncoder().encode(text).length + 2 * TEMPLATE_TOKENS_PER_MESSAGE;
  }

  function show() {
    for (const one of document.querySelectorAll("[data-tokens]")) {
      const tokens = estimate(document.querySelector(one.dataset.tokens).value);
      const words = ngettext("about %(count)s token", "about %(count)s tokens", tokens);
      one.textContent = interpolate(words, { count: tokens.toLocaleString(language) });
    }
    for (const one of document.querySelectorAll("[data-most-tokens]")) {
      const tokens = most(document.querySelector(one.dataset.mostTokens).value);
      one.textContent = interpolate(gettext("up to %(count)s"), { count: tokens.toLocaleString(language) });
    }
  }

  document.addEventListener("input", (event) => {
    show();
    const note = document.querySelector("#prompt-changes [data-stale]");
    if (note && event.target.name === "system_prompt") note.hidden = false;
  });

  document.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-show-changes]");
    if (!button) return;
    try {
      const fields = new FormData(button.form);
      const response = await gateway.request(button.dataset.showChanges, fields, { headers: { Accept: "text/html" } });
      const page = new DOMParser().parseFromString(await response.text(), "text/html");
      const found = response.ok && page.getElementById("prompt-changes");
      if (found) document.getElementById("prompt-changes").replaceChildren(...found.childNodes);
      else gateway.toast(gettext("The text could not be compared. Save it to see why."));
    } catch (error) {
      gateway.tell(error);
    }
  });
  document.addEventListener("DOMContentLoaded", show);

  window.gateway.tokens = { estimate, most };
})();
