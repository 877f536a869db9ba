// One tooltip and one line through all charts of a group ([data-charts]), by pointer, by tap, and by
// arrow keys. The server wrote what each time says into its <title>, a name and a value a line;
// without script, browsers show that. The colours of the lines are the classes in data-series.
(function () {
  "use strict";

  const { gettext } = window.gateway;
  const SVG = "http://www.w3.org/2000/svg";

  function element(name, css, ...parts) {
    const made = document.createElement(name);
    made.className = css;
    made.append(...parts);
    return made;
  }

  // Returns what each column of a chart says, and where it leads. Takes away the browser's tooltips.
  function read(plot) {
    return [...plot.querySelectorAll(".gw-column")].map((column) => {
      const title = column.querySelector("title");
      const [time, ...lines] = title.textContent.split("\n");
      const colours = column.dataset.series.split(" ");
      const rows = lines.map((line, at) => [colours[at], ...line.split("\t")]);
      const link = column.querySelector(":scope > a");
      title.remove();
      return { time, rows, url: link && link.getAttribute("href") };
    });
  }

  function name(plot) {
    const part = plot.closest("[aria-labelledby]");
    return part ? document.getElementById(part.getAttribute("aria-labelledby")).textContent : "";
  }

  // The space is for who copies the text or hears it.
  function row(css, label, value) {
    return element("div", css, element("span", "", label), " ", element("span", "", value));
  }

  // Returns the rows of one chart. Beside others, it has a heading.
  function part({ rows }, heading) {
    const lines = rows.map(([colour, ...of]) => row(`gw-chart-tip-row ${colour}`, ...of));
    if (heading) lines.unshift(row("gw-chart-tip-head", heading, rows.length ? "" : "–"));
    return element("div", "gw-chart-tip-part", ...lines);
  }

  function connect(group) {
    const plots = [...group.querySelectorAll(".gw-chart-plot")];
    const told = plots.map(read);
    const count = told.length ? told[0].length : 0;
    if (!count) return;
    const headings = plots.map((plot) => (plots.length > 1 ? name(plot) : ""));
    const tip = element("div", "gw-chart-tip");
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
    let tapped = -1; // the time whose tooltip stays until something else is tapped

    function tell(index) {
      const { time, url } = told[0][index];
      tip.replaceChildren(element("strong", "", time), ...told.map((of, at) => part(of[index], headings[at])));
      if (tapped < 0 || !url) return;
      const link = element("a", "gw-link", gettext("Show requests"));
      link.href = url;
      tip.append(link);
    }

    function show(index, left, top, isTapped) {
      if (index !== shown || isTapped) {
        shown = index;
        tapped = isTapped ? index : -1;
        tell(index);
        tip.classList.toggle("gw-chart-tip-tapped", tapped >= 0);
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
      shown = tapped = -1;
      tip.hidden = true;
      lines.forEach((line) => line.setAttribute("visibility", "hidden"));
    }

    function hideUntapped() {
      if (tapped < 0) hide();
    }

    for (const plot of plots) {
      const chart = plot.parentElement;
      const indexAt = (event) => {
        const box = plot.getBoundingClientRect();
        const index = Math.floor(((event.clientX - box.left) / box.width) * count);
        return Math.max(0, Math.min(count - 1, index));
      };
      plot.addEventListener("pointermove", (event) => {
        const index = indexAt(event);
        if (event.pointerType !== "touch" && index !== tapped) show(index, event.clientX, event.clientY);
      });
      plot.addEventListener("pointerleave", hideUntapped);
      // A finger cannot point without following the link: its first tap shows the tooltip, which has
      // the link, and a second one in the same column follows the link below it.
      let pointer = "mouse";
      plot.addEventListener("pointerdown", (event) => {
        pointer = event.pointerType;
      });
      plot.addEventListener("click", (event) => {
        const index = indexAt(event);
        if (pointer === "mouse" || index === tapped) return;
        event.preventDefault();
        show(index, event.clientX, event.clientY, true);
      });
      let chosen = count;
      chart.addEventListener("blur", () => {
        chosen = count;
        hideUntapped();
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
    document.addEventListener("pointerdown", (event) => {
      if (tapped >= 0 && ![tip, ...plots].some((one) => one.contains(event.target))) hide();
    });
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
