// The playground: sends a message, shows the answer as it arrives, and what it cost.
(function () {
  "use strict";

  const form = document.querySelector("[data-playground]");
  if (!form) return;
  const chat = form.querySelector("[data-chat]");
  const log = chat.parentElement;
  const nothing = form.querySelector("[data-nothing]");
  const sendButton = form.querySelector("[data-send]");
  const newButton = form.querySelector("[data-new]");
  const field = form.elements.message;
  const simulate = form.elements.simulate;
  const draft = document.querySelector("[data-draft]");
  const compare = form.querySelector("[data-compare]");
  let draftTurns = []; // the draft's side of the conversation, which the server does not keep
  let conversation = "";
  let busy = null; // the AbortController of the answer in progress

  function element(name, className, text) {
    const made = document.createElement(name);
    if (className) made.className = className;
    if (text !== undefined) made.textContent = text;
    return made;
  }

  function mode() {
    return form.querySelector("[name=mode]:checked").value;
  }

  function begin() {
    if (busy) busy.abort();
    const bytes = crypto.getRandomValues(new Uint8Array(8));
    conversation = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
    form.querySelector("[data-session]").textContent = form.dataset.prefix + conversation;
    draftTurns = [];
    chat.replaceChildren();
    nothing.hidden = false;
    log.hidden = true;
    const isFree = mode() === "test";
    // The list there shows live traffic unless the link asks for test traffic.
    const list = form.querySelector("[data-list]");
    list.search = new URLSearchParams({ text: form.dataset.prefix + conversation, traffic: isFree ? "test" : "live" });
    form.querySelector("[data-simulate]").hidden = !isFree;
    if (!isFree) simulate.value = "";
    label();
  }

  function label() {
    const pays = mode() === "live";
    const send = compare.checked ? "Send twice" : "Send";
    sendButton.lastChild.textContent = pays ? `${send} and pay` : send;
  }

  // `into`: the list to add to, which is the chat or one side of a comparison.
  function say(kind, text, into = chat) {
    const item = element("li", `gw-bubble gw-bubble-${kind} gw-pre`, text);
    item.dir = "auto";
    into.append(item);
    nothing.hidden = true;
    log.hidden = false;
    return item;
  }

  // What an answer cost, or what went wrong: words and elements, some of which may be missing.
  function note(parts, into = chat) {
    const item = element("li", "gw-bubble-meta");
    item.append(...parts.filter(Boolean).map((part) => (typeof part === "string" ? element("span", "", part) : part)));
    into.append(item);
  }

  // Two lists side by side, in one item of the chat.
  function sides(names) {
    const item = element("li", "gw-sides gw-playground-sides");
    chat.append(item);
    return names.map((name) => {
      const list = element("ol", "gw-chat");
      list.setAttribute("aria-label", name);
      list.append(element("li", "gw-bubble-meta gw-strong", name));
      item.append(list);
      return list;
    });
  }

  function curlOf(text) {
    if (!text) return null;
    const box = element("details", "gw-playground-curl");
    box.append(element("summary", "gw-link", "As cURL"));
    const code = element("div", "gw-code");
    const pre = element("pre", "", text);
    pre.tabIndex = 0;
    const button = element("button", "gw-btn gw-btn-small gw-copy", "Copy");
    button.type = "button";
    button.dataset.copy = text;
    code.append(pre, button);
    box.append(code);
    return box;
  }

  function problem(answer, status, curl, into = chat) {
    const item = say("bad", answer.error || "Something broke. Reload the page and try again.", into);
    const fields = Object.entries(answer.fields || {}).map(([name, what]) => `${name}: ${what}`);
    if (fields.length) item.append(element("p", "", fields.join("\n")));
    if (answer.fallback_reply) item.append(element("p", "gw-soft", `Your visitor reads: ${answer.fallback_reply}`));
    note([
      answer.code && element("code", "gw-mono", answer.code),
      status ? `status ${status}` : answer.code && "after the answer had begun",
      answer.retry_after && `try again in ${gateway.wait(answer.retry_after)}`,
      // If the database was lost during a commit, it may have stored the turn and its charge.
      answer.code && answer.code !== "overloaded" && "nothing charged",
      answer.request_id && element("span", "gw-mono", answer.request_id),
      curlOf(curl || answer.curl),
    ], into);
  }

  // Server-sent events of a response: calls on(name, data) for each.
  async function readEvents(response, on) {
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let buffer = "";
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      buffer += value;
      const events = buffer.split("\n\n");
      buffer = events.pop();
      for (const event of events) {
        const found = event.match(/^event: (.*)\ndata: (.*)$/);
        if (found) on(found[1], JSON.parse(found[2]));
      }
    }
  }

  async function refused(response, into) {
    const kind = response.headers.get("Content-Type") || "";
    if (kind.includes("json")) return problem(await response.json(), response.status, "", into);
    if (response.status === 403) return problem({ error: "Your login is no longer allowed to do this. Reload the page." }, 403, "", into);
    return problem({}, response.status, "", into);
  }

  async function askBoth(message) {
    busy = new AbortController();
    const published = { message, conversation, mode: mode(), simulate: simulate.value };
    if (!compare.checked) return ask(form.action, published, chat);
    const [left, right] = sides(["Published", "Draft"]);
    const tried = { message, mode: mode(), turns: JSON.stringify(draftTurns.slice(-50)), ...draftFields() };
    const asked = [ask(form.action, published, left), ask(draft.dataset.ask, tried, right)];
    const [first, second] = await Promise.allSettled(asked);
    if (second.value) draftTurns.push([message, second.value]);
    for (const one of [first, second]) if (one.status === "rejected") throw one.reason;
  }

  function draftFields() {
    const named = ["system_prompt", "model", "digest"].map((name) => [name, draft.elements[name].value]);
    return Object.fromEntries(named);
  }

  // Returns the reply, or nothing if there was none.
  async function ask(url, fields, into) {
    const started = performance.now();
    const bubble = say("assistant", "", into);
    let reply = "";
    bubble.append(element("span", "gw-busy"));
    let firstAfter = 0;
    let curl = "";
    let hasEnded = false;
    const response = await gateway.request(url, fields, { signal: busy.signal });
    if (!(response.headers.get("Content-Type") || "").startsWith("text/event-stream")) {
      bubble.remove();
      await refused(response, into);
      return "";
    }
    await readEvents(response, (name, data) => {
      if (name === "request") curl = data.curl;
      if (name === "delta") {
        if (!firstAfter) {
          firstAfter = performance.now() - started;
          bubble.textContent = "";
        }
        bubble.textContent += data.text;
        bubble.scrollIntoView({ block: "nearest" });
      }
      if (name === "done") {
        hasEnded = true;
        reply = data.reply;
        bubble.textContent = reply;
        note([
          `first word after ${gateway.duration(firstAfter)}, all after ${gateway.duration(performance.now() - started)}`,
          `tokens: ${data.usage.prompt_tokens} in, ${data.usage.completion_tokens} out${data.usage.estimated ? " (estimated)" : ""}`,
          `credits: ${gateway.credits(data.credits.charged)} charged, ${gateway.credits(data.credits.remaining)} left`,
          `by ${response.headers.get("X-Gateway-Provider") || "?"}`,
          element("span", "gw-mono", response.headers.get("X-Request-Id") || ""),
          curlOf(curl),
        ], into);
      }
      if (name === "error") {
        hasEnded = true;
        problem(data, 0, curl, into);
      }
    });
    const lost = into.getAttribute("aria-label") === "Draft" ? "The connection was lost." : "The connection was lost. The answer is saved: see Conversations.";
    if (!hasEnded) problem({ error: lost }, 0, "", into);
    return reply;
  }

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const message = field.value.trim();
    if (busy || !message) return;
    field.value = "";
    gateway.forget(form);
    const said = say("user", message);
    sendButton.disabled = true;
    try {
      await askBoth(message);
    } catch (error) {
      // “New conversation” aborted the request, so nothing on the page can show the error.
      if (error.name !== "AbortError") {
        for (const waiting of chat.querySelectorAll(".gw-busy")) waiting.closest("li").remove();
        if (error.isLoggedOut) {
          // It was never sent: put it back into the field, unless somebody has begun the next one.
          said.remove();
          if (!field.value) field.value = message;
          field.dispatchEvent(new Event("input", { bubbles: true }));
          gateway.tell(error);
        } else {
          problem({ error: "The gateway could not be reached, or the connection was lost." }, 0);
        }
      }
    } finally {
      busy = null;
      sendButton.disabled = false;
      log.scrollTop = log.scrollHeight;
      field.focus();
    }
  });

  field.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      form.requestSubmit();
    }
  });
  newButton.addEventListener("click", () => {
    begin();
    field.focus();
  });
  // Free and paid conversations are kept apart, so the other mode begins a new one.
  for (const choice of form.querySelectorAll("[name=mode]")) choice.addEventListener("change", begin);
  compare.addEventListener("change", label);
  window.gateway.draftFields = draftFields;
  window.gateway.readEvents = readEvents;
  begin();
})();
