// The staff admin: names for the fields that look rows up while one types, which have none.
(function () {
  "use strict";

  function nameLookups() {
    for (const select of document.querySelectorAll("select.select2-hidden-accessible")) {
      const box = select.parentElement.querySelector(".select2-selection");
      const label = select.labels && select.labels[0];
      const column = select.closest("td") && select.closest("td").dataset.label;
      if (!box) continue;
      box.removeAttribute("aria-labelledby");
      box.setAttribute("aria-label", (label ? label.textContent : column || select.name).trim());
    }
  }

  window.addEventListener("load", nameLookups);
  document.addEventListener("formset:added", () => setTimeout(nameLookups));
})();
