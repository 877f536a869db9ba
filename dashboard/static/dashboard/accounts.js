// Passkeys: offered if the browser supports them. Errors are shown in words.
(function () {
  "use strict";

  const { gettext } = window.gateway;

  // Over plain http only on localhost, and never for a bare IP address.
  const isIpAddress = /^[\d.]+$|^\[/.test(location.hostname);
  const hasPasskeys = Boolean(window.PublicKeyCredential) && !isIpAddress;
  for (const part of document.querySelectorAll("[data-passkeys]")) part.hidden = !hasPasskeys;
  for (const part of document.querySelectorAll("[data-no-passkeys]")) part.hidden = hasPasskeys;

  const words = {
    NotAllowedError: gettext("The browser did not get a passkey. Try again and choose one."),
    InvalidStateError: gettext("This key has already been added."),
    SecurityError: gettext("Passkeys do not work at this address. Use HTTPS, or http://localhost."),
  };
  document.addEventListener("allauth.error", (event) => {
    event.preventDefault();
    const error = event.detail.exception || {};
    window.gateway.toast(words[error.name] || gettext("The passkey did not work here. Try again, or use your password."));
  });
})();
