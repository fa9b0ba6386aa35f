// Ask a built site as its own search does, by the worker that the theme brings: node site_search.js SITE QUERY...
// Prints, as JSON, the addresses of the pages found for each query, best first.
const fs = require("fs"), path = require("path"), vm = require("vm");

const [site, ...queries] = process.argv.slice(2);
const workers = path.join(site, "assets", "javascripts", "workers");
const read = (...names) => fs.readFileSync(path.join(...names), "utf8");
let listen, answered;
const worker = {
  console: { warn: console.error },
  addEventListener: (_, listener) => { listen = listener; },
  postMessage: (message) => answered(message),
  importScripts: (...names) => names.forEach((name) => vm.runInContext(read(workers, name), worker)),
};
worker.self = worker;
vm.createContext(worker);
vm.runInContext(read(workers, fs.readdirSync(workers).find((name) => /^search\..*\.js$/.test(name))), worker);
const ask = (type, data) => new Promise((resolve) => { answered = resolve; listen({ data: { type, data } }); });

(async () => {
  await ask(0, { ...JSON.parse(read(site, "search", "search_index.json")), options: {} });
  const found = {};
  for (const query of queries) {
    const { data } = await ask(2, query);
    found[query] = data.items.map(([page]) => page.location.split("#")[0]);
  }
  console.log(JSON.stringify(found));
})();
