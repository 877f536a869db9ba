// One tooltip and one line through all charts of a group ([data-charts]), by pointer and by arrow
// keys. The server wrote what each time says into its <title>; without script, browsers show that.
(function () {
  "use strict";

  const SVG = "http://www.w3.org/2000/svg";

  function connect(group) {
    const plots = [...group.querySelectorAll(".gw-chart-plot")];
    const titles = plots.map((plot) => [...plot.querySelectorAll(".gw-column > title")]);
    const told = titles.map((of) => of.map((title) => title.textContent.split("\n")));
    const count = told.length ? told[0].length : 0;
    if (!count) return;
    titles.flat().forEach((title) => title.remove());
    const tip = document.createElement("div");
    tip.className = "gw-chart-tip";
    tip.setAttribute("role", "status");
    tip.hidden = true;
    document.body.append(tip);
    const lines = plots.map((plot) => {
      const line = document.createElementNS(SVG, "line");
      line.setAttribute("class", "gw-crosshair");
      line.setAttribute("y2", plot.querySelector(".gw-column-area").getAttribute("height"));
      line.setAttribute("visibility", "hidden");
      plot.append(line);
      return line;
    });
    let shown = -1;

    function show(index, left, top) {
      if (index !== shown) {
        shown = index;
        const strong = document.createElement("strong");
        strong.textContent = told[0][index][0];
        const figures = told.flatMap((of) => of[index].slice(1)).map((words) => {
          const figure = document.createElement("span");
          figure.textContent = words;
          return figure;
        });
        tip.replaceChildren(strong, ...figures);
        for (const line of lines) {
          const middle = `${((index + 0.5) / count) * 100}%`;
          line.setAttribute("x1", middle);
          line.setAttribute("x2", middle);
          line.setAttribute("visibility", "visible");
        }
      }
      tip.hidden = false;
      const { width, height } = tip.getBoundingClientRect();
      const beside = left + 16 + width > window.innerWidth ? left - 16 - width : left + 16;
      tip.style.left = `${Math.max(8, beside)}px`;
      tip.style.top = `${Math.max(8, Math.min(top + 16, window.innerHeight - height - 8))}px`;
    }

    function hide() {
      shown = -1;
      tip.hidden = true;
      lines.forEach((line) => line.setAttribute("visibility", "hidden"));
    }

    for (const plot of plots) {
      const chart = plot.parentElement;
      plot.addEventListener("pointermove", (event) => {
        const box = plot.getBoundingClientRect();
        const index = Math.floor(((event.clientX - box.left) / box.width) * count);
        show(Math.max(0, Math.min(count - 1, index)), event.clientX, event.clientY);
      });
      plot.addEventListener("pointerleave", hide);
      let chosen = count;
      chart.addEventListener("blur", () => {
        chosen = count;
        hide();
      });
      chart.addEventListener("keydown", (event) => {
        const steps = { ArrowLeft: -1, ArrowRight: 1, Home: -count, End: count };
        if (event.key === "Escape") return hide();
        if (!(event.key in steps)) return;
        event.preventDefault();
        chosen = Math.max(0, Math.min(count - 1, chosen + steps[event.key]));
        const box = plot.getBoundingClientRect();
        show(chosen, box.left + ((chosen + 0.5) / count) * box.width, box.top);
      });
    }
    window.addEventListener("scroll", hide, { passive: true, capture: true });
  }

  function connectAll(part) {
    for (const group of part.querySelectorAll("[data-charts]:not([data-is-connected])")) {
      group.dataset.isConnected = "";
      connect(group);
    }
  }

  connectAll(document);
  // Parts of a page that arrive later.
  document.addEventListener("htmx:load", (event) => connectAll(event.detail.elt));
})();
