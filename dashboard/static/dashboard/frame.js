// The components of unfold's frame, by name: Alpine's build for a content security policy runs no
// code from the page and reaches no global, so what unfold's templates call is registered here.
// Unfold's own functions (unfold/js/app.js) are loaded before this.
(function () {
  "use strict";

  const remembered = "sidebarDesktopOpen";

  // On every page: which tab of a form is open, and whether the sidebar is open.
  function frame() {
    return {
      activeTab: "",
      sidebarMobileOpen: false,
      sidebarDesktopOpen: localStorage.getItem(remembered) !== "0",
      // The source of a form's address.
      window: { location: { pathname: location.pathname, search: location.search } },
      init() {
        const first = this.$root.dataset.tab;
        this.activeTab = first ? getCurrentTab() || first : "";
        this.$watch(remembered, (isOpen) => localStorage.setItem(remembered, isOpen ? "1" : "0"));
      },
      moveRecords: (event) => moveRecords(event),
      sortRecords: (event) => sortRecords(event),
    };
  }

  document.addEventListener("alpine:init", () => {
    Alpine.data("theme", theme);
    Alpine.data("frame", frame);
    Alpine.data("searchForm", searchForm);
  });

  // htmx only does searches here. Markup that got into a page must not use it to change anything
  // with the log-in of the person who looks at it.
  document.addEventListener("htmx:configRequest", (event) => {
    if (event.detail.verb !== "get") event.preventDefault();
  });
})();
