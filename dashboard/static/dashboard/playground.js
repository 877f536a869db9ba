// The playground: sends a message, shows the answer as it arrives, and what it cost.
(function () {
  "use strict";

  const { gettext, interpolate } = window.gateway;
  const form = document.querySelector("[data-playground]");
  if (!form) return;
  const root = form.closest(".gw-playground");
  const find = (name) => root.querySelector(`[data-${name}]`);
  const [chat, nothing, draft] = ["chat", "nothing", "draft"].map(find);
  const [sendButton, newButton, saveButton] = ["send", "new", "save"].map(find);
  const log = chat.parentElement;
  const field = form.elements.message;
  const simulate = form.elements.simulate;
  let draftTurns = []; // the draft's side of the conversation, which the server does not keep
  let isChosen = false; // whether somebody has said who answers
  let conversation = "";
  let busy = null; // the AbortController of the answer in progress

  function element(name, className, text) {
    const made = document.createElement(name);
    if (className) made.className = className;
    if (text !== undefined) made.textContent = text;
    return made;
  }

  function mode() {
    return form.elements.mode.value;
  }

  function begin() {
    if (busy) busy.abort();
    const bytes = crypto.getRandomValues(new Uint8Array(8));
    conversation = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
    draftTurns = [];
    chat.replaceChildren();
    nothing.hidden = false;
    log.hidden = true;
    remember("");
    follow();
  }

  // Shows the conversation and what its mode means.
  function follow() {
    find("session").textContent = form.dataset.prefix + conversation;
    const isFree = mode() === "test";
    // The list there shows live traffic unless the link asks for test traffic.
    find("list").search = new URLSearchParams({ text: form.dataset.prefix + conversation, traffic: isFree ? "test" : "live" });
    if (!isFree) simulate.value = "";
    label();
  }

  function address() {
    return `?${new URLSearchParams({ conversation, mode: mode() })}`;
  }

  // With the conversation in the address, the server shows it again after a reload, and after the
  // draft is saved or discarded.
  function remember(query) {
    if (location.search !== query) history.replaceState(history.state, "", location.pathname + query);
    for (const [owner, name] of [[draft, "action"], [draft.querySelector("[data-discard]"), "href"]]) {
      if (!owner) continue;
      const url = new URL(owner.getAttribute(name), location.href);
      owner.setAttribute(name, url.pathname + query);
    }
  }

  function label() {
    const pays = mode() === "live" && form.dataset.isDemo === undefined;
    const isChanged = isDraftChanged();
    find("answers").hidden = !isChanged;
    if (!isChanged) isChosen = false;
    // Whoever has changed the draft wants its answer. Both together are free in the free mode only.
    if (!isChosen) form.elements.answers.value = !isChanged ? "published" : mode() === "live" ? "draft" : "both";
    const free = isBoth() ? gettext("Send twice") : gettext("Send");
    const paid = isBoth() ? gettext("Send twice and pay") : gettext("Send and pay");
    sendButton.lastChild.textContent = pays ? paid : free;
    find("draft-price").hidden = !pays || form.elements.answers.value === "published";
    // What is simulated never reaches the draft.
    find("simulate").hidden = mode() === "live" || form.elements.answers.value === "draft";
    if (!saveButton) return;
    saveButton.disabled = !isChanged;
    draft.querySelector("[data-discard]").hidden = !isChanged;
  }

  function isBoth() {
    return form.elements.answers.value === "both";
  }

  function isDraftChanged() {
    const { system_prompt: prompt, model } = draft.elements;
    // A refused draft is shown again, and is not what is published.
    if (draft.dataset.isBound !== undefined) return true;
    return prompt.value !== prompt.defaultValue || !model.options[model.selectedIndex].defaultSelected;
  }

  // `into`: the list to add to, which is the chat or one side of a comparison.
  function say(kind, text, into = chat) {
    const item = element("li", `gw-bubble gw-bubble-${kind} gw-pre`, text);
    item.dir = "auto";
    into.append(item);
    // A reader of an earlier message is left there.
    if (kind === "user") log.scrollTop = log.scrollHeight;
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
    box.append(element("summary", "gw-link", gettext("As cURL")));
    const code = element("div", "gw-code");
    const pre = element("pre", "", text);
    pre.tabIndex = 0;
    const button = element("button", "gw-btn gw-btn-small gw-copy", gettext("Copy"));
    button.type = "button";
    button.dataset.copy = text;
    code.append(pre, button);
    box.append(code);
    return box;
  }

  function problem(answer, status, curl, into = chat) {
    const item = say("bad", answer.error || gettext("Something broke. Reload the page and try again."), into);
    const fields = Object.entries(answer.fields || {}).map(([name, what]) => `${name}: ${what}`);
    if (fields.length) item.append(element("p", "", fields.join("\n")));
    if (answer.fallback_reply) item.append(element("p", "gw-soft", interpolate(gettext("Your visitor reads: %(text)s"), { text: answer.fallback_reply })));
    note([
      answer.code && element("code", "gw-mono", answer.code),
      status ? interpolate(gettext("status %(status)s"), { status }) : answer.code && gettext("after the answer had begun"),
      answer.retry_after && interpolate(gettext("try again in %(time)s"), { time: gateway.wait(answer.retry_after) }),
      // If the database was lost during a commit, it may have stored the turn and its charge.
      answer.code && answer.code !== "overloaded" && gettext("nothing charged"),
      answer.request_id && element("span", "gw-mono", answer.request_id),
      curlOf(curl || answer.curl),
    ], into);
  }

  // Shows a reply as transcripts do. The server has rendered and cleaned its Markdown.
  function render(into, html) {
    const made = element("div", "gw-prose");
    made.append(...new DOMParser().parseFromString(html, "text/html").body.childNodes);
    into.classList.remove("gw-pre");
    into.replaceChildren(made);
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
    if (response.status === 403) return problem({ error: gettext("Your login is no longer allowed to do this. Reload the page.") }, 403, "", into);
    return problem({}, response.status, "", into);
  }

  // Asks what is published, the draft, or both side by side.
  async function askChosen(message) {
    busy = new AbortController();
    const published = { message, conversation, mode: mode(), simulate: simulate.value };
    const tried = { message, mode: mode(), turns: JSON.stringify(draftTurns.slice(-50)), ...draftFields() };
    const askPublished = (into) => ask(form.action, published, into);
    const askDraft = (into) => ask(draft.dataset.ask, tried, into);
    let asked;
    if (isBoth()) {
      const [left, right] = sides([gettext("Published"), gettext("Draft")]);
      asked = [askPublished(left), askDraft(right)];
    } else if (form.elements.answers.value === "draft") {
      asked = [askDraft(sides([gettext("Draft")])[0])];
    } else {
      asked = [askPublished(chat)];
    }
    const answers = await Promise.allSettled(asked);
    // The draft goes on from what was said before it was asked.
    const reply = answers.at(-1).value;
    if (reply) draftTurns.push([message, reply]);
    for (const one of answers) if (one.status === "rejected") throw one.reason;
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
        const isAtEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 80;
        bubble.textContent += data.text;
        if (isAtEnd) log.scrollTop = log.scrollHeight;
      }
      if (name === "rendered") render(bubble, data.html);
      if (name === "done") {
        hasEnded = true;
        reply = data.reply;
        note([
          interpolate(gettext("first word after %(first)s, all after %(all)s"), { first: gateway.duration(firstAfter), all: gateway.duration(performance.now() - started) }),
          interpolate(data.usage.estimated ? gettext("tokens: %(input)s in, %(output)s out (estimated)") : gettext("tokens: %(input)s in, %(output)s out"), { input: data.usage.prompt_tokens, output: data.usage.completion_tokens }),
          interpolate(gettext("credits: %(charged)s charged, %(left)s left"), { charged: gateway.credits(data.credits.charged), left: gateway.credits(data.credits.remaining) }),
          interpolate(gettext("by %(provider)s"), { provider: response.headers.get("X-Gateway-Provider") || "?" }),
          element("span", "gw-mono", response.headers.get("X-Request-Id") || ""),
          curlOf(curl),
        ], into);
      }
      if (name === "error") {
        hasEnded = true;
        problem(data, 0, curl, into);
      }
    });
    const lost = url === draft.dataset.ask ? gettext("The connection was lost.") : gettext("The connection was lost. The answer is saved: see Conversations.");
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
    remember(address());
    sendButton.disabled = true;
    log.setAttribute("aria-busy", "true"); // an answer is read out once it is whole
    try {
      await askChosen(message);
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
          problem({ error: gettext("The gateway could not be reached, or the connection was lost.") }, 0);
        }
      }
    } finally {
      busy = null;
      sendButton.disabled = false;
      log.removeAttribute("aria-busy");
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
  for (const choice of form.elements.mode) choice.addEventListener("change", begin);
  for (const choice of form.elements.answers) {
    choice.addEventListener("change", () => {
      isChosen = true;
      label();
    });
  }
  draft.addEventListener("input", label);
  Object.assign(window.gateway, { draftFields, readEvents, render });
  find("options").hidden = false;
  if (form.dataset.conversation) {
    conversation = form.dataset.conversation;
    remember(address());
    follow();
    log.scrollTop = log.scrollHeight;
  } else {
    begin();
  }
  // drafts.js has put back what was typed by then.
  window.addEventListener("load", label);
})();
