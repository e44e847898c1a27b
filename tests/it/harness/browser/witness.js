// Tells the record how WebSockets end: the debugging protocol says that they do, but not with which code.
window.WebSocket = class extends WebSocket {
  constructor(...how) {
    super(...how);
    this.addEventListener("close", ({ code, reason }) => console.debug("WebSocket closed", `${code} ${reason}`));
  }
};
