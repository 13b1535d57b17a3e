// Server and client for the test of node: node pair.mjs server|client DIR
import { createServer, Agent, request } from "node:http";
import { createReadStream, readFileSync } from "node:fs";
import { createHash } from "node:crypto";
import net from "node:net";
import dgram from "node:dgram";
import cluster from "node:cluster";

const [mode, dir] = process.argv.slice(2);
const big = dir + "/big";
const sha = (b) => createHash("sha256").update(b).digest("hex");
const check = (what, got, want) => {
  if (got !== want) {
    console.error(`${what}: got ${got}, want ${want}`);
    process.exit(1);
  }
};

function serve() {
  createServer((req, res) => {
    if (req.url === "/big") return createReadStream(big).pipe(res);
    if (req.url === "/who") return res.end(`${req.socket.remoteAddress} ${req.socket.localPort}`);
    const h = createHash("sha256");
    req.on("data", (d) => h.update(d)).on("end", () => res.end(h.digest("hex")));
  }).listen(8000, "::");
  net.createServer({ allowHalfOpen: true }, (c) => c.pipe(c)).listen(8001, "127.0.0.1");
  const u = dgram.createSocket("udp4");
  u.on("message", (m, from) => u.send(Buffer.concat([m, Buffer.from("!")]), from.port, from.address));
  u.bind(8002, "127.0.0.1");
}

// Two processes of node's cluster module share one listener.
function serveCluster() {
  if (cluster.isPrimary) {
    for (let i = 0; i < 2; i++) cluster.fork();
  } else {
    createServer((req, res) => res.setHeader("connection", "close").end(String(process.pid))).listen(8003, "127.0.0.1");
  }
}

async function client() {
  const want = sha(readFileSync(big));
  const bodies = await Promise.all(
    Array.from({ length: 20 }, (_, i) => fetch(`http://${i % 2 ? "127.0.0.1" : "[::1]"}:8000/big`).then((r) => r.arrayBuffer()))
  );
  for (const b of bodies) check("fetch", sha(Buffer.from(b)), want);
  check("who", await (await fetch("http://127.0.0.1:8000/who")).text(), "::ffff:127.0.0.1 8000");
  const up = await Promise.all(
    Array.from({ length: 30 }, (_, i) => {
      const body = Buffer.alloc(i * 10000, `part ${i} `);
      return fetch("http://localhost:8000/up", { method: "POST", body }).then(async (r) => (await r.text()) === sha(body));
    })
  );
  check("uploads", up.filter(Boolean).length, 30);
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  const ports = new Set();
  for (let i = 0; i < 50; i++) {
    await new Promise((done, bad) =>
      request({ agent, port: 8000, host: "127.0.0.1", path: "/who" }, (res) => {
        ports.add(res.socket.localPort);
        res.on("end", () => setImmediate(done)).resume();
      }).on("error", bad).end()
    );
  }
  check("connections of a keep-alive agent", ports.size, 1);
  agent.destroy();
  console.log("http ok");

  const echoes = await Promise.all(
    Array.from({ length: 40 }, (_, i) => new Promise((done, bad) => {
      const out = Buffer.alloc(20000 + i, `echo ${i}`);
      const got = [];
      const c = net.connect(8001, "127.0.0.1", () => c.end(out));
      c.setNoDelay(true);
      c.setKeepAlive(true, 1000);
      c.on("data", (d) => got.push(d)).on("end", () => done(Buffer.concat(got).equals(out))).on("error", bad);
    }))
  );
  check("echoes", echoes.filter(Boolean).length, 40);
  const refused = await new Promise((done) => net.connect(1, "127.0.0.1").on("error", (e) => done(e.code)));
  check("refused", refused, "ECONNREFUSED");
  console.log("net ok");

  const u = dgram.createSocket("udp4");
  const answers = await new Promise((done) => {
    const got = new Set();
    u.on("message", (m, from) => {
      if (from.port === 8002) got.add(m.toString());
      if (got.size === 20) done(got);
    });
    for (let i = 0; i < 20; i++) u.send(`m${i}`, 8002, "127.0.0.1");
  });
  for (let i = 0; i < 20; i++) check("datagram", answers.has(`m${i}!`), true);
  u.close();
  console.log("dgram ok");

  const pids = new Set();
  for (let i = 0; i < 12; i++) pids.add(await (await fetch("http://127.0.0.1:8003/")).text());
  check("processes of the cluster", pids.size, 2);
  console.log("cluster ok");
}

if (mode === "server") serve();
else if (mode === "cluster") serveCluster();
else await client();
