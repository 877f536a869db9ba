// Several channels at once (includes/channel_table.html): says how many are chosen, chooses all that
// are shown, and asks before they are switched off. Without scripts, the bar says only that it is about
// the chosen ones.
(function () {
  "use strict";

  const { gettext, interpolate } = window.gateway;
  const bar = document.getElementById("gw-bulk");
  if (!bar) return;
  const boxes = [...document.querySelectorAll('[form="gw-bulk"][name="channel"]')];
  const all = document.querySelector("[data-choose-all]");
  const question = document.getElementById("gw-bulk-off");
  const count = bar.querySelector("[data-chosen-count]");

  function show() {
    const chosen = boxes.filter((box) => box.checked).length;
    all.checked = chosen === boxes.length;
    all.indeterminate = chosen > 0 && chosen < boxes.length;
    count.textContent = interpolate(gettext("%(count)s chosen"), { count: chosen });
  }

  // Names the chosen channels.
  function ask(event) {
    event.preventDefault();
    const names = boxes.filter((box) => box.checked).map((box) => {
      const item = document.createElement("li");
      item.dir = "auto";
      item.textContent = box.closest("tr").querySelector(".gw-cell-title a").textContent;
      return item;
    });
    question.querySelector("[data-chosen-names]").replaceChildren(...names);
    question.showModal();
  }

  all.previousElementSibling.remove(); // the words that stand in for it without scripts
  all.hidden = false;
  bar.querySelector("[value=off]").addEventListener("click", ask);
  all.addEventListener("change", () => {
    for (const box of boxes) box.checked = all.checked;
    show();
  });
  for (const box of boxes) box.addEventListener("change", show);
  // A browser puts choices back on the way back to a page.
  window.addEventListener("pageshow", show);
})();
