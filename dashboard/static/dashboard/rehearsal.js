// The rehearsal: asks the playground's draft visitors' latest questions, one by one.
(function () {
  "use strict";

  const { gettext, interpolate } = window.gateway;
  const section = document.querySelector("[data-rehearsal]");
  const draft = document.querySelector("[data-draft]");
  if (!section || !draft) return;
  const find = (name) => section.querySelector(`[data-${name}]`);
  const [count, show, rehearse, stop] = ["count-of-questions", "show-questions", "rehearse", "stop"].map(find);
  const progress = find("progress");
  const table = find("questions-table");
  let questions = [];
  let fields = {}; // the draft that the shown price is for
  let isStopped = false;

  function cell(label, text) {
    const made = document.createElement("td");
    made.dataset.label = label;
    made.className = "gw-cell-block gw-answer gw-pre gw-break";
    made.dir = "auto";
    made.textContent = text;
    return made;
  }

  async function problemOf(response) {
    const kind = response.headers.get("Content-Type") || "";
    if (!kind.includes("json")) return gettext("Something broke. Reload the page and try again.");
    const answer = await response.json();
    const wrong = Object.entries(answer.fields || {}).map(([name, what]) => `${name}: ${what}`);
    return [answer.error, ...wrong].join(" ");
  }

  async function list() {
    fields = gateway.draftFields();
    const response = await gateway.request(draft.dataset.questions, { ...fields, count: count.value });
    rehearse.hidden = table.hidden = true;
    if (!response.ok) {
      progress.textContent = await problemOf(response);
      return;
    }
    const found = await response.json();
    questions = found.questions;
    const rows = questions.map((one) => {
      const row = document.createElement("tr");
      const got = cell(gettext("Answer visitors got"), "");
      gateway.render(got, one.html);
      row.append(cell(gettext("Question"), one.question), got, cell(gettext("Answer of the draft"), "–"));
      return row;
    });
    table.querySelector("tbody").replaceChildren(...rows);
    rehearse.hidden = table.hidden = !questions.length;
    const price = gateway.credits(found.highest);
    const words = price === "1" ? gettext("Rehearse for at most %(price)s credit") : gettext("Rehearse for at most %(price)s credits");
    rehearse.textContent = price === "0" ? gettext("Rehearse") : interpolate(words, { price });
    progress.textContent = questions.length ? interpolate(gettext("%(count)s of the latest questions. Nothing was asked yet."), { count: questions.length }) : gettext("Visitors have not asked anything yet, or the text is no longer kept.");
  }

  // Shows the draft's answer to a question. Returns the credits it cost.
  async function ask(question, into) {
    into.classList.add("gw-pre");
    into.textContent = "…";
    const response = await gateway.request(draft.dataset.ask, { ...fields, mode: "live", question: question.id });
    if (!(response.headers.get("Content-Type") || "").startsWith("text/event-stream")) {
      into.textContent = await problemOf(response);
      return 0;
    }
    let charged = 0;
    into.textContent = "";
    await gateway.readEvents(response, (name, data) => {
      if (name === "delta") into.textContent += data.text;
      if (name === "rendered") gateway.render(into, data.html);
      if (name === "error") into.textContent = data.error;
      if (name === "done") charged = Number(data.credits.charged);
    });
    return charged;
  }

  async function run() {
    const cells = [...table.querySelectorAll("tbody > tr")].map((row) => row.lastElementChild);
    let [asked, charged] = [0, 0];
    isStopped = false;
    rehearse.hidden = show.hidden = true;
    stop.hidden = false;
    stop.disabled = false;
    stop.focus();
    try {
      for (const question of questions) {
        if (isStopped) break;
        progress.textContent = interpolate(gettext("Asking %(number)s of %(all)s…"), { number: asked + 1, all: questions.length });
        charged += await ask(question, cells[asked]);
        asked += 1;
      }
      const words = isStopped && asked < questions.length ? gettext("Stopped: %(count)s of %(all)s asked, %(credits)s credits charged.") : gettext("Done: %(count)s of %(all)s asked, %(credits)s credits charged.");
      progress.textContent = interpolate(words, { count: asked, all: questions.length, credits: gateway.credits(String(charged)) });
    } finally {
      stop.hidden = true;
      show.hidden = false;
      show.focus();
    }
  }

  async function attempt(work) {
    try {
      await work();
    } catch (error) {
      if (error.isLoggedOut) gateway.tell(error);
      else progress.textContent = gettext("The gateway could not be reached, or the connection was lost.");
    }
  }

  show.addEventListener("click", () => count.reportValidity() && attempt(list));
  rehearse.addEventListener("click", () => attempt(run));
  stop.addEventListener("click", () => {
    isStopped = true;
    stop.disabled = true;
  });
  // The shown price is for another draft.
  draft.addEventListener("input", () => {
    rehearse.hidden = true;
  });
})();
