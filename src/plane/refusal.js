// Tells the page around this frame that it has to start a session, and loads the app again when it says that it has.
const frontends = JSON.parse(document.currentScript.dataset.frontends);
const link = /^\/\.embedgate\/t\/[\w~.-]+/;
const path = location.pathname.replace(link, "");
addEventListener("message", (event) => {
  if (event.source !== parent || !frontends.includes(event.origin) || event.data?.type !== "embedgate:reload") return;
  // A session in an address is another address: the same place, and the old one out of the history.
  const fresh = link.exec(event.data.path)?.[0];
  if (fresh) location.replace(fresh + path + location.search + location.hash);
  else location.reload();
});
// Delivered to the one that is the page's own, and to nobody else. A session in the address is nobody's affair.
for (const origin of frontends) parent.postMessage({ type: "embedgate:session", path }, origin);
