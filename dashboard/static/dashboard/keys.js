// Copies and reveals keys. The page asks for a clear key only when somebody wants it, shows it for
// at most a minute, and never keeps it.
(function () {
  "use strict";

  const { gettext } = window.gateway;
  const SHOWN_MS = 60_000;

  // A link to #rotate-… opens that dialog.
  document.addEventListener("DOMContentLoaded", () => {
    const dialog = location.hash.startsWith("#rotate-") && document.getElementById(location.hash.slice(1));
    if (dialog && dialog.showModal) dialog.showModal();
  });

  async function fetchKey(box, isCopy) {
    const fields = { next: location.pathname + location.search };
    if (isCopy) fields.copy = "1";
    return (await gateway.post(box.dataset.keyUrl, fields)).key;
  }

  function show(box, text, isShown) {
    const button = box.querySelector("[data-key-reveal]");
    box.querySelector("[data-key-text]").textContent = text;
    button.setAttribute("aria-pressed", String(isShown));
    button.querySelector("span").textContent = isShown ? "visibility_off" : "visibility";
  }

  function hide(box) {
    clearTimeout(box.hideLater);
    show(box, box.querySelector("[data-key-text]").dataset.masked, false);
  }

  async function reveal(box) {
    if (box.querySelector("[data-key-reveal]").getAttribute("aria-pressed") === "true") {
      hide(box);
      return;
    }
    const key = await fetchKey(box, false);
    show(box, key, true);
    box.hideLater = setTimeout(() => hide(box), SHOWN_MS);
  }

  async function copy(box) {
    const key = await fetchKey(box, true);
    try {
      await gateway.copy(key);
      gateway.toast(gettext("Copied. Keep the key in your backend."));
    } catch (error) {
      gateway.toast(gettext("The browser does not allow copying here. Reveal the key and copy it by hand."));
    }
  }

  document.addEventListener("click", (event) => {
    // data-key-note: dashboard.js has copied a key that the page shows in clear text.
    const note = event.target.closest("[data-key-note]");
    if (note) gateway.post(note.dataset.keyNote).catch(gateway.tell);
    const box = event.target.closest("[data-key-url]");
    if (!box) return;
    const deed = event.target.closest("[data-key-copy]") ? copy : event.target.closest("[data-key-reveal]") ? reveal : null;
    if (deed) deed(box).catch(gateway.tell);
  });
})();
