// [data-fit] fills the window: --gw-above is how far below the top of the page it begins.
(function () {
  "use strict";

  function fit() {
    for (const one of document.querySelectorAll("[data-fit]")) {
      one.style.setProperty("--gw-above", `${Math.round(one.getBoundingClientRect().top + window.scrollY)}px`);
    }
  }

  window.addEventListener("resize", fit);
  window.addEventListener("load", fit); // fonts may have moved it
  fit();
})();
