// Written by scripts/messages.py from dashboard/locale; edit it there.
window.gatewayTexts = { plural: (n) => Number((n != 1)), texts: {} };
