// The page of a run: what the server sends (events), kept for a minute and
// shown. The server's observe/ui/state.go says what the messages have.

import { bits, bytes, clock as clockText, count, ms, us } from "./format.js";
import { LinkControls } from "./link.js";
import { Plot } from "./plot.js";
import { Log, SortTable } from "./table.js";

const $ = (id) => document.getElementById(id);
const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const dark = matchMedia("(prefers-color-scheme: dark)");
const palettes = {
  light: ["#1d4ed8", "#c2410c", "#0f766e", "#9333ea", "#b91c1c", "#4d7c0f", "#0369a1", "#a16207"],
  dark: ["#6ea0ff", "#fb923c", "#2dd4bf", "#c084fc", "#f87171", "#a3e635", "#38bdf8", "#facc15"],
};

// state is what the server has said: hosts and links by id, and the ticks.
// The window grows with the run, up to what is kept.
const visible = () => Math.min(state.keep, Math.max(15 * state.hz, state.n));

const state = { hosts: new Map(), links: new Map(), n: 0, hz: 10, keep: 600, times: [], end: "" };
let host = null, chosen = null, hover = null;

const clock = {
  get n() { return state.n; }, get hz() { return state.hz; }, get keep() { return visible(); },
  time: (tick) => state.times[state.times.length - 1 - (state.n - tick)] ?? tick / state.hz,
};

// ---- what is remembered

// extend appends a value to series s (an array) of at most keep.
function extend(s, v) {
  s.push(v);
  if (s.length > state.keep + 100) s.splice(0, s.length - state.keep);
}

const socketSeries = { in: "inr", out: "outr", rtt: "rtt", cwnd: "cwnd", ssthresh: "ssthresh", flight: "flight" };

// remember adds the present values of all sockets to their series.
function remember(h, n) {
  for (const row of h.rows.values()) {
    if (row.closed || (!row.mss && !row.in && !row.out)) continue;
    let p = h.past.get(row.id);
    if (!p) h.past.set(row.id, (p = { end: n, series: {} }));
    for (const [name, field] of Object.entries(socketSeries)) {
      if (!row.mss && name !== "in" && name !== "out") continue;
      extend((p.series[name] ??= []), row[field]);
    }
    p.end = n + 1;
  }
}

function hello(m) {
  state.hz = m.hz; state.keep = m.keep; state.n = m.n; state.end = "";
  state.times = Array.from({ length: m.keep }, (_, i) => m.t - (m.keep - 1 - i) / m.hz);
  $("title").textContent = $("title").title = m.title;
  document.title = m.title + " – alptrace";
  state.hosts.clear(); state.links.clear();
  for (const h of m.hosts) {
    const past = new Map(h.history.map((x) => [x.id, { end: x.end, series: x.series }]));
    state.hosts.set(h.id, { ...h, rows: new Map((h.sockets || []).map((r) => [r.id, r])), past, procs: h.procs || [], calls: h.calls || [] });
  }
  for (const l of m.links) state.links.set(l.id, { ...l, packetLog: l.new || [], endTick: m.n });
  choose(null);
  fillSelect($("host"), [...state.hosts.values()], $("host-label"));
  fillSelect($("link"), [...state.links.values()], $("link"));
  selectHost([...state.hosts.keys()][0]);
  if (m.end) ended(m.end);
}

function fillSelect(select, list, box) {
  select.replaceChildren(...list.map((x) => new Option(x.name || "host", x.id)));
  box.hidden = list.length < 2;
}

function tick(m) {
  state.n = m.n + 1;
  extend(state.times, m.t);
  for (const f of m.hosts) {
    const h = state.hosts.get(f.id);
    if (!h) continue;
    for (const k of ["in", "out", "inr", "outr", "total"]) h[k] = f[k];
    for (const r of f.sockets || []) h.rows.set(r.id, r);
    for (const id of f.forgotten || []) { h.rows.delete(id); h.past.delete(id); if (h === host) sockets.delete(id); }
    extend((h.series.in ??= []), f.inr);
    extend((h.series.out ??= []), f.outr);
    remember(h, m.n);
    if (f.procs) h.procs = f.procs;
    if (f.calls) { h.calls.push(...f.calls); h.calls.splice(0, Math.max(0, h.calls.length - 500)); }
    if (h === host) showHost(f);
  }
  for (const f of m.links) {
    const l = state.links.get(f.id);
    if (!l) continue;
    for (const [name, field] of [["rate", "rate"], ["queue", "queue"]]) ["in", "out"].forEach((d, i) => extend((l.series[`${name}_${d}`] ??= []), f[field][i]));
    for (const name of ["full", "lost"]) ["in", "out"].forEach((d, i) => extend((l.series[`${name}_${d}`] ??= []), f[name][i] - l[name][i]));
    Object.assign(l, f);
    l.endTick = m.n + 1;
    if (f.new) { l.packetLog.push(...f.new); l.packetLog.splice(0, Math.max(0, l.packetLog.length - 500)); }
    if (l === link()) { controls.show(l); packets.add(f.new || []); }
  }
  if (m.end) ended(m.end);
  setStatus();
  draw();
}

// ---- tables

const spark = (td, r) => {
  let svg = td.firstChild;
  if (!svg) {
    td.innerHTML = `<svg class="spark" viewBox="0 0 54 16" preserveAspectRatio="none" aria-hidden="true"><path fill="none" stroke-width="1.3" vector-effect="non-scaling-stroke"/></svg>`;
    svg = td.firstChild;
  }
  const p = host.past.get(r.id), a = p?.series.in || [], b = p?.series.out || [];
  const n = 150, from = Math.max(0, a.length - n); // 15 s
  if (!p || !a.length) return svg.firstChild.setAttribute("d", "");
  let most = 1;
  const v = [];
  for (let i = from; i < a.length; i += 2) { const x = Math.max(a[i] + b[i], i + 1 < a.length ? a[i + 1] + b[i + 1] : 0); v.push(x); if (x > most) most = x; }
  const lag = Math.max(0, state.n - p.end) / 2;
  const step = 54 / (n / 2);
  svg.firstChild.setAttribute("d", v.map((x, i) => `${i ? "L" : "M"}${(54 - (v.length - 1 - i + lag) * step).toFixed(1)} ${(15 - (x / most) * 14).toFixed(1)}`).join(""));
  svg.firstChild.setAttribute("stroke", colorOf(r.id) || css("--dim"));
};

// rateOf is the mean rate of a socket in the last second, both ways.
function rateOf(r) {
  const p = host.past.get(r.id);
  if (r.closed || !p) return 0;
  const last = (s) => (s || []).slice(-state.hz).reduce((sum, v) => sum + v, 0) / state.hz;
  return last(p.series.in) + last(p.series.out);
}

const processName = (pid) => host?.names?.get(pid) || "";
const sockets = new SortTable($("sockets"), [
  { name: "process", value: (r) => processName(r.pid) + r.pid, render: (td, r) => {
    const text = `${processName(r.pid)} ${r.pid}`;
    if (!td.firstChild) { const i = document.createElement("i"); i.className = "dot"; td.append(i, text); }
    if (td.lastChild.textContent !== text) td.lastChild.textContent = text;
    td.firstChild.style.background = colorOf(r.id) || "transparent";
  } },
  { name: "fd", class: "r", value: (r) => r.fd, text: (r) => String(r.fd) },
  { name: "proto", value: (r) => r.proto, text: (r) => r.proto },
  { name: "state", value: (r) => r.state, text: (r) => r.state + (r.backlog ? ` (${r.backlog})` : "") },
  { name: "local", class: "mono", value: (r) => r.local, text: (r) => r.local || "–" },
  { name: "peer", class: "mono", value: (r) => r.peer, text: (r) => r.peer || "–" },
  { name: "received", class: "r", value: (r) => r.in, text: (r) => r.in ? bytes(r.in) : "–" },
  { name: "sent", class: "r", value: (r) => r.out, text: (r) => r.out ? bytes(r.out) : "–" },
  { name: "rate", class: "r", title: "both ways, in the last second", value: (r) => r.closed ? -1 : rateOf(r), text: (r) => r.closed ? "" : bits(Math.round(rateOf(r))) },
  { name: "15 s", title: "rate in the last 15 seconds", render: spark },
  { name: "RTT", class: "r", title: "smoothed round-trip time, and its variation", value: (r) => r.rtt, text: (r) => r.mss && r.rtt ? ms(r.rtt) : "" },
  { name: "cwnd", class: "r", title: "congestion window", value: (r) => r.cwnd, text: (r) => r.mss && r.cwnd ? bytes(r.cwnd) : "" },
  { name: "retx", class: "r", title: "segments sent again", value: (r) => r.retrans, text: (r) => r.mss ? String(r.retrans) : "" },
], {
  sort: 8, descending: true, empty: "no sockets yet", onclick: (id) => choose(id === chosen ? null : id),
  rowClass: (r) => [r.closed ? "closed" : "", r.id === chosen ? "chosen" : ""].join(" ").trim(),
});

const states = { R: "running", S: "sleeping", D: "waiting", Z: "zombie", T: "stopped", t: "traced", I: "idle", "": "ended" };
const processes = new SortTable($("processes"), [
  { name: "process", value: (p) => p.order, render: (td, p) => {
    const text = "\u2003".repeat(p.depth) + (p.depth ? "└ " : "") + p.name;
    if (td.textContent !== text) td.textContent = text;
    td.title = `${states[p.state] ?? p.state}: ${p.cmd}`;
  } },
  { name: "pid", class: "r", value: (p) => p.pid, text: (p) => String(p.pid) },
  { name: "CPU", class: "r", title: "processor time, user and system", value: (p) => p.cpu, text: (p) => p.cpu.toFixed(2) + " s" },
  { name: "memory", class: "r", title: "resident", value: (p) => p.rss, text: (p) => p.rss ? bytes(p.rss) : "" },
  { name: "sockets", class: "r", title: "open", value: (p) => p.sockets, text: (p) => p.sockets ? String(p.sockets) : "" },
], { sort: 0, empty: "no processes yet", rowClass: (p) => p.state === "" ? "exited" : "" });

// tree puts processes in the order of their tree, with depths.
function tree(list, open) {
  const byParent = new Map(), pids = new Set(list.map((p) => p.pid));
  for (const p of list) {
    const parent = pids.has(p.ppid) ? p.ppid : 0;
    byParent.set(parent, [...(byParent.get(parent) || []), p]);
  }
  const out = [];
  const walk = (pid, depth) => {
    for (const p of byParent.get(pid) || []) {
      if (out.length > 500) return;
      out.push({ ...p, depth, order: out.length, sockets: open.get(p.pid) || 0 });
      walk(p.pid, depth + 1);
    }
  };
  walk(0, 0);
  return out;
}

const seconds = (e) => e.t.toFixed(3);
const calls = new Log($("calls"), [
  { name: "time, s", class: "r", text: seconds },
  { name: "process", text: (c) => `${processName(c.pid)} ${c.pid}` },
  { name: "call", class: "mono grow", text: (c) => `${c.name}(${c.args})` },
  { name: "result", class: "mono", text: (c) => c.res.replace(/^-1 (\w+).*/, "$1").replace(/^\? \(executed natively\)$/, "native").replace(/^\? (\w+).*/, "$1") },
  { name: "took", class: "r", text: (c) => us(c.us) },
], { empty: "no calls on sockets yet", text: (c) => `${processName(c.pid)} ${c.pid} ${c.name}(${c.args}) = ${c.res}`, rowClass: (c) => c.bad ? "bad" : "", filter: $("call-filter"), hold: $("call-hold"), note: $("call-note") });

const packets = new Log($("packets"), [
  { name: "time, s", class: "r", text: seconds },
  { name: "dir", text: (p) => p.dir === "in" ? "◂ in" : "▸ out", mark: (p) => "dir-" + p.dir },
  { name: "proto", text: (p) => p.proto },
  { name: "from", class: "mono", text: (p) => p.src },
  { name: "to", class: "mono", text: (p) => p.dst },
  { name: "bytes", class: "r", text: (p) => String(p.len) },
  { name: "", class: "mono grow", text: (p) => p.info },
], { empty: "no packets yet", text: (p) => `${p.dir} ${p.proto} ${p.src} ${p.dst} ${p.info}`, rowClass: (p) => p.bad ? "bad" : "", filter: $("packet-filter"), hold: $("packet-hold"), note: $("packet-note") });

// ---- plots

const plots = {
  rate: new Plot($("plot-rate"), { title: "Throughput", format: (v) => bits(v / 8), least: 1000, empty: "" }),
  rtt: new Plot($("plot-rtt"), { title: "Round-trip time", format: ms, least: 0.1, empty: "no TCP connection in the last minute" }),
  cwnd: new Plot($("plot-cwnd"), { title: "Congestion window", format: bytes, base: 1024, least: 1024, empty: "no TCP connection in the last minute" }),
  queue: new Plot($("plot-queue"), { title: "Queue", format: (v) => count(v) + " p", least: 4, empty: "" }),
};
const all = Object.values(plots);

const colors = new Map(); // socket -> index in the palette
let drawnSockets = [];

function colorOf(id) {
  const i = colors.get(id);
  return i === undefined || !drawnSockets.includes(id) ? "" : palettes[dark.matches ? "dark" : "light"][i];
}

// pickSockets chooses the TCP connections to draw: the chosen one, or those that
// moved the most in the last minute.
function pickSockets() {
  const recent = [...host.rows.values()].filter((r) => r.mss && (host.past.get(r.id)?.end ?? 0) > state.n - state.keep && (!r.closed || r.in + r.out > 0));
  recent.sort((a, b) => (b.in + b.out) - (a.in + a.out) || a.id - b.id);
  const least = recent.length ? (recent[0].in + recent[0].out) / 100 : 0;
  drawnSockets = (chosen !== null ? recent.filter((r) => r.id === chosen) : recent.filter((r) => r.in + r.out >= least).slice(0, 6)).map((r) => r.id);
  const used = new Set(drawnSockets.map((id) => colors.get(id)));
  for (const id of drawnSockets) {
    if (colors.has(id)) continue;
    let i = 0;
    while (used.has(i) && i < 7) i++;
    colors.set(id, i);
    used.add(i);
  }
  for (const id of colors.keys()) if (!host.rows.has(id)) colors.delete(id);
}

// shortName tells sockets apart.
function shortName(r) {
  return r.peer ? (processName(r.pid) || "tcp") + " → " + r.peer : r.local;
}

// smooth is the mean of the last half second, times a factor.
function smooth(v, factor = 1) {
  const n = Math.round(state.hz / 2);
  let sum = 0;
  return v.map((x, i) => {
    sum += x - (i >= n ? v[i - n] : 0);
    return (sum * factor) / Math.min(i + 1, n);
  });
}

function draw() {
  if (document.hidden || !host) return;
  pickSockets();
  const rows = drawnSockets.map((id) => host.rows.get(id));
  const only = chosen !== null ? host.past.get(chosen) : null;
  const from = only ? { s: only.series, end: only.end } : { s: host.series, end: state.n };
  plots.rate.lines = [
    { name: "received", color: css("--in"), values: smooth(from.s.in || [], 8), end: from.end, fill: true },
    { name: "sent", color: css("--out"), values: smooth(from.s.out || [], 8), end: from.end, fill: true },
  ];
  plots.rate.note.textContent = only ? "of one socket" : "";
  const line = (r, name, extra) => {
    const p = host.past.get(r.id);
    return { name: `${processName(r.pid) || r.proto} ${r.pid}`, color: colorOf(r.id), values: p.series[name] || [], end: p.end, brief: rows.length > 1, ...extra };
  };
  plots.rtt.lines = rows.map((r) => line(r, "rtt"));
  plots.rtt.note.textContent = rows.length > 1 ? "" : "smoothed";
  plots.rtt.empty = plots.cwnd.empty = chosen !== null ? "the chosen socket has no connection" : "no TCP connection in the last minute";
  plots.cwnd.lines = rows.map((r) => line(r, "cwnd"));
  if (rows.length === 1) {
    plots.cwnd.lines[0].name = "cwnd";
    plots.cwnd.lines.push(line(rows[0], "flight", { name: "in flight", color: css("--dim") }));
    if ((host.past.get(rows[0].id).series.ssthresh || []).some((v) => v > 0)) plots.cwnd.lines.push(line(rows[0], "ssthresh", { name: "ssthresh", dash: true }));
  }
  const l = link();
  if (l) {
    plots.queue.lines = ["in", "out"].map((d) => ({ name: d, color: css("--" + d), values: smooth(l.series["queue_" + d] || []), end: l.endTick, fill: true }));
    plots.queue.marks = [];
    for (const kind of ["full", "lost"]) for (const d of ["in", "out"]) {
      const s = l.series[`${kind}_${d}`] || [];
      s.forEach((v, i) => { if (v > 0) plots.queue.marks.push({ tick: l.endTick - s.length + i, color: kind === "lost" ? css("--warn") : css("--bad"), high: kind === "full" }); });
    }
    plots.queue.extra = `${count(l.full[0] + l.full[1])} dropped, ${count(l.lost[0] + l.lost[1])} lost`;
    plots.queue.note.textContent = "of " + l.name;
  } else plots.queue.empty = "no link";
  for (const p of all) p.draw(clock, hover);
  showTip();
}

let tipAt = null;
for (const p of all) {
  p.onhover = (plot, px) => {
    hover = plot ? Math.min(state.n, plot.tickAt(px)) : null;
    tipAt = plot ? { plot, px } : null;
    draw();
  };
}

function showTip() {
  const tip = $("tip");
  const rows = tipAt && hover !== null ? tipAt.plot.at(hover) : [];
  tip.hidden = !rows.length;
  if (!rows.length) return;
  const head = document.createElement("div");
  head.textContent = "at " + clockText(Math.max(0, clock.time(hover)));
  head.className = "dim";
  tip.replaceChildren(head, ...rows.map((r) => {
    const d = document.createElement("div"), i = document.createElement("i"), b = document.createElement("b");
    i.style.color = r.color;
    b.textContent = r.text;
    d.append(i, r.name, b);
    return d;
  }));
  const box = tipAt.plot.canvas.getBoundingClientRect(), x = box.left + tipAt.px;
  tip.style.top = box.top + 8 + "px";
  tip.style.left = (x + tip.offsetWidth + 20 > innerWidth ? x - tip.offsetWidth - 12 : x + 12) + "px";
}

// ---- what is shown

function link() { return state.links.get(Number($("link").value)) || null; }

function selectHost(id) {
  host = state.hosts.get(id) || null;
  sockets.clear(); processes.clear();
  if (!host) return;
  $("stack").textContent = host.stack;
  showProcesses();
  for (const r of host.rows.values()) sockets.set(r.id, r);
  calls.all = host.calls.slice();
  calls.redraw();
  showLink();
  showHost({ calls: [] });
  setStatus();
  draw();
}

function showLink() {
  const l = link();
  controls.show(l);
  packets.all = l ? l.packetLog.slice() : [];
  packets.redraw();
}

function showProcesses() {
  const open = new Map();
  for (const r of host.rows.values()) if (!r.closed) open.set(r.pid, (open.get(r.pid) || 0) + 1);
  host.names = new Map(host.procs.map((p) => [p.pid, p.name]));
  const list = tree(host.procs, open), pids = new Set(list.map((p) => p.pid));
  for (const pid of [...processes.rows.keys()]) if (!pids.has(pid)) processes.delete(pid);
  for (const p of list) processes.set(p.pid, p);
  processes.arrange();
  const alive = host.procs.filter((p) => p.state !== "").length;
  $("process-count").textContent = host.procs.length ? `${alive} running` + (host.procs.length > alive ? `, ${host.procs.length - alive} ended` : "") : "";
}

let arranged = 0;
function showHost(f) {
  // Sparklines move with time, so every open socket's row is written.
  for (const r of host.rows.values()) if (!r.closed || !sockets.rows.has(r.id) || sockets.rows.get(r.id) !== r || state.n % 10 === 0) sockets.set(r.id, r);
  if (f.procs || state.n % 10 === 0) showProcesses();
  if (sockets.dirty || state.n - arranged >= 10) { // rows that jump cannot be read
    sockets.arrange((r) => $("show-closed").checked || !r.closed);
    sockets.dirty = false;
    arranged = state.n;
  }
  let open = 0, closed = 0;
  for (const r of host.rows.values()) r.closed ? closed++ : open++;
  $("socket-count").textContent = `${host.total} open` + (host.total > open ? `, ${open} shown` : "") + (closed ? `, ${closed} closed` : "");
  calls.add(f.calls || [], f.more);
  const totals = { received: bytes(host.in || 0), sent: bytes(host.out || 0) };
  const dl = $("totals");
  if (!dl.children.length) for (const k of Object.keys(totals)) { const d = document.createElement("div"); d.innerHTML = `<dt>${k}</dt><dd data-total="${k}"></dd>`; dl.append(d); }
  for (const [k, v] of Object.entries(totals)) dl.querySelector(`[data-total=${k}]`).textContent = v;
  $("clock").textContent = clockText(clock.time(state.n));
}

// choose shows one socket alone in the plots and packets; null is all.
function choose(id) {
  chosen = id;
  const r = host?.rows.get(id);
  packets.accept = id === null ? () => true : (p) => p.sock === id;
  packets.about = r ? `of ${shortName(r)} only` : "";
  packets.redraw();
  if (!host) return;
  for (const row of host.rows.values()) sockets.set(row.id, row);
  draw();
}

function setStatus(lost) {
  const s = $("status");
  const paused = [...state.links.values()].some((l) => l.paused);
  const [cls, text] = state.end ? ["ended", "ended: " + state.end] : lost ? ["lost", lost] : paused ? ["paused", "link paused"] : ["running", "running"];
  s.className = "status " + cls;
  if (s.textContent !== text) s.textContent = text;
}

function ended(how) {
  state.end = how;
  controls.end();
  events?.close();
  setStatus();
  for (const r of host?.rows.values() || []) sockets.set(r.id, r);
  sockets.arrange();
}

// ---- the server

async function post(what, order) {
  try {
    const r = await fetch(what, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(order) });
    return r.ok ? "" : (await r.text()).trim();
  } catch {
    return "alptrace cannot be reached";
  }
}

const controls = new LinkControls(post);
let events = null;

function connect() {
  events = new EventSource("events");
  events.addEventListener("hello", (e) => hello(JSON.parse(e.data)));
  events.addEventListener("tick", (e) => tick(JSON.parse(e.data)));
  events.onerror = () => {
    if (state.end) return;
    setStatus("connection lost, trying again");
    if (events.readyState === EventSource.CLOSED) setTimeout(connect, 2000);
  };
}

$("host").addEventListener("change", () => { choose(null); selectHost(Number($("host").value)); });
$("link").addEventListener("change", () => { showLink(); draw(); });
$("show-closed").addEventListener("change", () => sockets.arrange((r) => $("show-closed").checked || !r.closed));
dark.addEventListener("change", () => { if (host) { draw(); for (const r of host.rows.values()) sockets.set(r.id, r); } });
addEventListener("resize", draw);
document.addEventListener("visibilitychange", draw);
document.addEventListener("keydown", (e) => {
  if (e.target.matches("input:not([type=radio]):not([type=checkbox]):not([type=range]), select") || e.ctrlKey || e.metaKey || e.altKey) {
    if (e.key === "Escape") e.target.blur();
    return;
  }
  const act = { p: () => controls.toggle(), i: () => controls.control("step", "in"), o: () => controls.control("step", "out"), "/": () => $("call-filter").focus(), Escape: () => choose(null) }[e.key];
  if (act) { e.preventDefault(); act(); }
});

connect();
