// Runs the script of docs.html on a document of a few lines, and prints what it made as JSON: what was fetched, and the page.
// usage: node docs_page.mjs docs.html openapi.json ADDRESS
import { readFileSync } from "node:fs";
import vm from "node:vm";

const [page, description, address] = process.argv.slice(2);

class Element {
  constructor(localName) {
    this.localName = localName;
    this.children = [];
  }
  append(...children) {
    this.children.push(...children);
  }
  replaceChildren(...children) {
    this.children = children;
  }
  scrollIntoView() {
    this.scrolledTo = true;
  }
}

const about = new Element("p");
const shown = new Element("div");
const find = (node, id) => (node.id === id ? node : (node.children || []).map((child) => find(child, id)).find(Boolean) || null);
const fetched = [];
const script = readFileSync(page, "utf8").match(/<script>([^]*)<\/script>/)[1];
const done = [];
vm.runInNewContext(script, {
  URL,
  location: new URL(address),
  document: {
    createElement: (name) => new Element(name),
    getElementById: (id) => ({ about, page: shown })[id] || find(shown, id),
  },
  fetch: (url) => {
    fetched.push(url);
    const answer = { ok: true, status: 200, json: () => Promise.resolve(JSON.parse(readFileSync(description, "utf8"))) };
    done.push(answer);
    return Promise.resolve(answer);
  },
});
await new Promise((resolve) => setImmediate(resolve));
console.log(JSON.stringify({ fetched, about: { ...about }, page: { ...shown } }));
