// Preloaded into a peer that knows no setting for its address: whatever it serves, it serves on
// this machine alone. An address that was asked for is replaced too.
"use strict";

const net = require("node:net");

const listen = net.Server.prototype.listen;

net.Server.prototype.listen = function (port, ...rest) {
  const callback = rest.find((one) => typeof one === "function");
  return listen.call(this, { port: Number(port), host: "127.0.0.1" }, callback);
};
