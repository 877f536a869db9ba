// The staff admin: gives names to the look-up fields, which have none.
(function () {
  "use strict";

  function nameLookups() {
    for (const select of document.querySelectorAll("select.select2-hidden-accessible")) {
      const label = select.labels && select.labels[0];
      const column = select.closest("td") && select.closest("td").dataset.label;
      const name = (label ? label.textContent : column || select.name).replace("*", "").trim();
      const box = select.nextElementSibling;
      if (!box) continue;
      for (const part of box.querySelectorAll("[role=combobox], [role=textbox]")) {
        part.removeAttribute("aria-labelledby");
        part.setAttribute("aria-label", name);
      }
    }
  }

  window.addEventListener("load", nameLookups);
  document.addEventListener("formset:added", () => setTimeout(nameLookups));
})();
