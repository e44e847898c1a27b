// What `Page::eval` offers to the expressions of the tests. Unlike the DOM's own queries, all of it looks into open
// shadow roots, where marimo keeps its controls.
{
  /** The first element that matches, in this tree or in a shadow tree below it; else null. */
  find(selector, root = document) {
    const match = root.querySelector(selector);
    if (match) return match;
    for (const host of root.querySelectorAll("*")) {
      const inner = host.shadowRoot && this.find(selector, host.shadowRoot);
      if (inner) return inner;
    }
    return null;
  },

  /** The text that the page shows, with that of its shadow trees after it. */
  text(root = document.body) {
    if (!root) return "";
    const own = root.innerText ?? [...root.children].map((child) => child.innerText ?? "").join("\n");
    const hosts = [...root.querySelectorAll("*")].filter((element) => element.shadowRoot);
    return [own, ...hosts.map((host) => this.text(host.shadowRoot))].join("\n");
  },

  /** Where a mouse hits the element: its centre, once it lies still, in view and uncovered; else why not. */
  async target(selector) {
    const element = this.find(selector);
    if (!element) return { missing: "no such element" };
    element.scrollIntoView({ block: "center", inline: "center", behavior: "instant" });
    const before = element.getBoundingClientRect();
    await new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn)));
    const box = element.getBoundingClientRect();
    if (!box.width || !box.height) return { missing: "the element has no size" };
    if (box.x !== before.x || box.y !== before.y) return { missing: "the element still moves" };
    const x = box.x + box.width / 2;
    const y = box.y + box.height / 2;
    const hit = this.hit(x, y);
    for (let node = hit; node; node = node.parentNode ?? node.host) if (node === element) return { x, y };
    return { missing: `covered by <${hit?.localName} class="${hit?.className}">` };
  },

  /** Where the inside of a frame begins. */
  corner(selector) {
    const frame = this.find(selector);
    if (!frame) return {};
    const box = frame.getBoundingClientRect();
    return { x: box.x + frame.clientLeft, y: box.y + frame.clientTop };
  },

  /** The innermost element at a point. */
  hit(x, y) {
    let element = document.elementFromPoint(x, y);
    for (let inner; (inner = element?.shadowRoot?.elementFromPoint(x, y)) && inner !== element; ) element = inner;
    return element;
  },
}
