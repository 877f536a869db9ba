// The part of the page that refreshes itself (#live) asks here first. It does not refresh in a
// hidden tab, or while somebody uses the keyboard in it or writes a note.
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
