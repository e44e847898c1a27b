// Asks at its own address how far the app is, so that it works wherever the app does, and loads it once it is up.
const show = (id, text) => { document.getElementById(id).textContent = text; };
const look = async () => {
  try {
    const answer = await fetch(location.href, { headers: { "X-Embedgate-Starting": "1" }, cache: "no-store", redirect: "manual" });
    if (answer.status !== 503) return location.reload();
    const { state, step, seconds } = await answer.json();
    show("step", step.charAt(0).toUpperCase() + step.slice(1) + ".");
    show("time", seconds + " s · ");
    if (state === "failed") {
      show("title", "Could not be started");
      document.getElementById("bar").remove();
      return setTimeout(look, 15000);
    }
  } catch {
    // The network, or the gateway itself, which may restart meanwhile.
  }
  setTimeout(look, 2000);
};
setTimeout(look, 1000);
