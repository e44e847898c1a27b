// Tells the page around this frame that it has to start a session, and reloads when it says that it has.
const frontends = JSON.parse(document.currentScript.dataset.frontends);
addEventListener("message", (event) => {
  if (event.source === parent && frontends.includes(event.origin) && event.data?.type === "embedgate:reload") {
    location.reload();
  }
});
// Delivered to the one that is the page's own, and to nobody else. A session in the address is nobody's affair.
const path = location.pathname.replace(/^\/\.embedgate\/t\/[^/]*/, "");
for (const origin of frontends) parent.postMessage({ type: "embedgate:session", path }, origin);
