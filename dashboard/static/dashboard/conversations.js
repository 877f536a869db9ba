// The part of the page that renews itself (#live) asks here first. Not in a tab nobody sees, nor
// under the hands of somebody who reads by keyboard or writes a note.
(function () {
  "use strict";

  function mayRenew(live) {
    if (document.visibilityState !== "visible" || document.querySelector("dialog[open]")) return false;
    return !live.contains(document.activeElement) && !live.querySelector("details[open]");
  }

  document.addEventListener("htmx:configRequest", (event) => {
    const asking = event.detail.elt;
    if (asking.id === "live" && !mayRenew(asking)) event.preventDefault();
  });
})();
