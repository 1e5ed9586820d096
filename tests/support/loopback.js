// Loaded before kinesis-local, which would listen on every interface: every server listens on 127.0.0.1 only.
const net = require("net");

const listen = net.Server.prototype.listen;
net.Server.prototype.listen = function (first, ...rest) {
  const loopback = "127.0.0.1";
  return typeof first === "object"
    ? listen.call(this, { ...first, host: loopback }, ...rest)
    : listen.call(this, { port: first, host: loopback }, ...rest.filter((argument) => typeof argument === "function"));
};
