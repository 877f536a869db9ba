// Tests a provider without leaving the page, so that its key need not be typed again. Without this
// script, and if the answer is not the page itself, the browser submits the form as usual.
(function () {
  "use strict";

  const form = document.getElementById("gw-wizard");
  if (!form) return;
  let isPlain = false;

  async function test(button) {
    const body = new FormData(form, button);
    button.disabled = true;
    const response = await fetch(location.href, { method: "POST", body });
    if (!response.ok || response.redirected) throw new Error("redirected");
    const page = new DOMParser().parseFromString(await response.text(), "text/html");
    document.getElementById("gw-trial").replaceWith(page.getElementById("gw-trial"));
    form.querySelector("[name=test]").focus();
  }

  form.addEventListener("submit", (event) => {
    const button = event.submitter;
    if (isPlain || !button || button.name !== "test") return;
    event.preventDefault();
    test(button).catch(() => {
      isPlain = true;
      button.disabled = false;
      form.requestSubmit(button);
    });
  });
})();
