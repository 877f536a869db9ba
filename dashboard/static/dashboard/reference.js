// The API reference: marks the part that is being read in the table of contents.
(function () {
  "use strict";

  const links = [...document.querySelectorAll("[data-contents] a")];
  const parts = links.map((link) => document.querySelector(link.getAttribute("href")));

  function mark() {
    // The last part whose heading has passed the upper third of the window.
    const line = window.innerHeight / 3;
    let current = parts.findLastIndex((part) => part.getBoundingClientRect().top < line);
    const isAtEnd = window.innerHeight + window.scrollY >= document.documentElement.scrollHeight - 2;
    if (isAtEnd) current = parts.length - 1;
    links.forEach((link, index) => {
      if (index === current) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
    });
  }

  let isWaiting = false;
  document.addEventListener("scroll", () => {
    if (isWaiting) return;
    isWaiting = true;
    requestAnimationFrame(() => {
      isWaiting = false;
      mark();
    });
  });
  mark();
})();
