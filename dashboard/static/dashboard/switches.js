// Switches that work at once (form[data-switch]); without scripts they are plain forms. This handles
// the form before dashboard.js, which would let it be sent only once.
(function () {
  "use strict";

  const { gettext } = window.gateway;

  // On a channel's pages, a badge beside its name says the state too.
  function showState(isOn) {
    for (const badge of document.querySelectorAll("[data-switch-state]")) {
      badge.classList.toggle("gw-badge-ok", isOn);
      badge.classList.toggle("gw-badge-bad", !isOn);
      badge.lastElementChild.textContent = isOn ? gettext("On") : gettext("Off");
    }
  }

  // The line that offers to undo the last change.
  let offer = null;

  async function set(form, wanted) {
    const button = form.querySelector("[role=switch]");
    if (button.disabled) return;
    button.disabled = true;
    if (offer) offer.remove();
    try {
      const answer = await gateway.post(form.action, { is_enabled: wanted });
      button.setAttribute("aria-checked", String(answer.is_enabled));
      button.value = answer.is_enabled ? "off" : "on";
      showState(answer.is_enabled);
      const undo = { text: gettext("Undo"), act: () => set(form, "on") };
      if (answer.is_enabled) gateway.toast(gettext("Switched on."));
      else offer = gateway.toast(gettext("Switched off. The next call is refused."), undo);
    } catch (error) {
      gateway.tell(error);
    } finally {
      button.disabled = false;
      button.focus();
    }
  }

  document.addEventListener(
    "submit",
    (event) => {
      const form = event.target;
      if (form.dataset.switch === undefined) return;
      event.preventDefault();
      set(form, form.querySelector("[role=switch]").value);
    },
    true,
  );
})();
