// Whether the part of the page that renews itself may do so now: asked by its hx-trigger.
// Not in a tab nobody sees, nor under the hands of somebody who reads by keyboard or writes a note.
window.gatewayMayRefresh = function () {
  "use strict";
  const live = document.getElementById("live");
  if (document.visibilityState !== "visible" || !live) return false;
  return !live.contains(document.activeElement) && !live.querySelector("details[open]") && !document.querySelector("dialog[open]");
};
