// The controls of a link: pause, steps, and the knobs of its impairments.

import { bits, count, formatRate, parseDuration, parseRate } from "./format.js";

const $ = (id) => document.getElementById(id);

// Knobs write words of a specification (docs/impair.md). A slider's position is
// turned to a value by a power, so that small values have room; rate is
// logarithmic and its right end is no limit.
const knobs = [
  { word: "delay", unit: "ms", max: 1000, power: 2.5, round: 0.1, read: (v) => parseDuration(v), write: (n) => n + "ms" },
  { word: "rate", unit: "Mbit/s", read: (v) => parseRate(v), write: formatRate, log: [0.1, 1000] },
  { word: "jitter", unit: "ms", max: 300, power: 2.5, round: 0.1, read: (v) => parseDuration(v.split(":")[0]), write: (n, was) => n + "ms" + (was?.includes(":") ? was.slice(was.indexOf(":")) : "") },
  { word: "queue", unit: "packets", needs: ["rate"], read: (v) => /^\d+p$/.test(v) ? parseInt(v) : NaN, write: (n) => Math.round(n) + "p", max: 2000, power: 3, round: 1 },
  { word: "loss", unit: "%", max: 50, power: 3, round: 0.01, read: percent, write: (n) => n + "%" },
  { word: "dup", unit: "%", max: 50, power: 3, round: 0.01, read: percent, write: (n) => n + "%" },
  { word: "reorder", unit: "%", max: 50, power: 3, round: 0.01, needs: ["delay", "jitter"], read: percent, write: (n) => n + "%" },
  { word: "corrupt", unit: "%", max: 50, power: 3, round: 0.01, read: percent, write: (n) => n + "%" },
];

function percent(v) { return /^[0-9.]+%$/.test(v) ? parseFloat(v) : NaN; }

const sliderMax = 1000;
const toValue = (k, pos) => {
  if (k.log) return pos >= sliderMax ? 0 : Number((k.log[0] * (k.log[1] / k.log[0]) ** (pos / (sliderMax - 1))).toPrecision(2));
  return Number((Math.round((k.max * (pos / sliderMax) ** k.power) / k.round) * k.round).toPrecision(6));
};
const toSlider = (k, n) => {
  if (k.log) return n === 0 ? sliderMax : Math.log(n / k.log[0]) / Math.log(k.log[1] / k.log[0]) * (sliderMax - 1);
  return (Math.min(n, k.max) / k.max) ** (1 / k.power) * sliderMax;
};

// words reads a specification as a map in order.
function words(spec) {
  const m = new Map();
  for (const w of spec.split(/\s+/).filter(Boolean)) {
    const at = w.indexOf("=");
    m.set(at < 0 ? w : w.slice(0, at), at < 0 ? null : w.slice(at + 1));
  }
  return m;
}

function join(m) { return [...m].map(([k, v]) => v === null ? k : `${k}=${v}`).join(" "); }

export class LinkControls {
  constructor(post) {
    this.post = post;
    this.link = null;
    this.shown = null; // the specification in the form, as the server has it
    for (const k of knobs) this.addKnob(k);
    $("pause").addEventListener("click", () => this.toggle());
    for (const what of ["step", "drop"]) for (const dir of ["in", "out"]) {
      $(`${what}-${dir}`).addEventListener("click", () => this.control(what, dir));
    }
    for (const dir of ["in", "out"]) {
      const tr = $("way-" + dir);
      for (let i = 0; i < 6; i++) tr.insertCell().textContent = "–";
    }
    $("spec").addEventListener("input", () => { this.changed(true); this.showKnobs($("spec").value); });
    $("knobs").addEventListener("submit", (e) => { e.preventDefault(); this.apply(); });
    $("perfect").addEventListener("click", () => { $("spec").value = ""; this.showKnobs(""); this.apply(); });
    for (const r of document.getElementsByName("dir")) r.addEventListener("change", () => this.showSpec(true));
  }

  addKnob(k) {
    const label = document.createElement("label");
    label.className = "knob";
    label.innerHTML = `<span></span><input type="range" min="0" max="${sliderMax}" step="1"><span class="value"><input type="number" min="0" step="any"><span></span></span>`;
    label.firstChild.textContent = k.word;
    const [range, number] = label.querySelectorAll("input");
    label.querySelector(".value > span").textContent = k.unit === "packets" ? "p" : k.unit === "Mbit/s" ? "Mb/s" : k.unit;
    range.setAttribute("aria-label", `${k.word}, ${k.unit}`);
    number.setAttribute("aria-label", `${k.word}, ${k.unit}`);
    number.id = "knob-" + k.word;
    range.addEventListener("input", () => this.turn(k, toValue(k, Number(range.value)), range));
    range.addEventListener("change", () => this.apply());
    number.addEventListener("change", () => { this.turn(k, Number(number.value), number); this.apply(); });
    Object.assign(k, { label, range, number });
    $("knob-list").append(label);
  }

  // turn sets a knob's word in the specification.
  turn(k, n, from) {
    const m = words($("spec").value);
    if (n > 0) m.set(k.word, k.write(n, m.get(k.word)));
    else m.delete(k.word);
    if (!m.has("rate")) for (const w of ["queue", "overhead", "ecn"]) m.delete(w);
    if (!m.has("delay") && !m.has("jitter")) m.delete("reorder");
    $("spec").value = join(m);
    this.changed(true);
    this.showKnobs($("spec").value, from);
  }

  showKnobs(spec, except) {
    const m = words(spec);
    for (const k of knobs) {
      const v = m.get(k.word);
      const n = v == null ? 0 : k.read(v); // NaN: what a slider cannot say
      k.range.disabled = k.number.disabled = !!k.needs && !k.needs.some((w) => m.has(w)) || this.ended;
      if (k.range !== except && document.activeElement !== k.number) k.range.value = Number.isNaN(n) ? 0 : toSlider(k, n);
      else if (k.range !== except) k.range.value = toSlider(k, n || 0);
      if (k.number !== except) k.number.value = Number.isNaN(n) || (n === 0 && (k.log || k.needs)) ? "" : n;
      k.number.placeholder = Number.isNaN(n) ? v : k.word === "rate" ? "none" : k.needs ? "–" : "0";
    }
  }

  get dir() { return document.querySelector("input[name=dir]:checked").value; }

  changed(on) { $("knobs").classList.toggle("changed", on); }

  // showSpec shows what the server has, unless the user is about to change it.
  showSpec(force) {
    if (!this.link) return;
    const [i, o] = this.link.spec, spec = this.dir === "in" ? i : o, key = this.dir + "|" + i + "|" + o;
    if (!force && (key === this.shown || $("knobs").classList.contains("changed"))) return;
    this.shown = key;
    $("spec").value = spec;
    this.changed(false);
    $("spec-error").textContent = this.dir === "both" && i !== o ? "the two directions differ; this is out" : "";
    this.showKnobs(spec);
  }

  async apply() {
    if (!this.link) return;
    const error = await this.post("impair", { link: this.link.name, dir: this.dir, spec: $("spec").value });
    $("spec-error").textContent = error;
    if (!error) { this.changed(false); this.shown = null; }
  }

  toggle() { if (this.link) this.control(this.link.paused ? "resume" : "pause"); }

  async control(what, dir = "") {
    if (!this.link || this.ended) return;
    const error = await this.post("link", { link: this.link.name, do: what, dir });
    $("link-state").title = error;
  }

  // end makes everything stay as it is.
  end() {
    this.ended = true;
    for (const e of $("link-body").querySelectorAll("button, input")) e.disabled = true;
  }

  // show shows the link as it is now; null is none.
  show(link) {
    this.link = link;
    $("link-none").hidden = !!link;
    $("link-body").hidden = $("link-state").hidden = !link;
    if (!link) return;
    $("link-name").textContent = link.name + (link.mtu ? `, MTU ${link.mtu}` : "");
    const state = $("link-state"), held = link.waiting[0] + link.waiting[1];
    state.textContent = link.paused ? `paused, ${held} held` : "open";
    state.className = "badge" + (link.paused ? " paused" : "");
    $("pause").textContent = link.paused ? "Resume" : "Pause";
    $("pause").className = link.paused ? "primary" : "";
    ["in", "out"].forEach((dir, d) => {
      for (const what of ["step", "drop"]) $(`${what}-${dir}`).disabled = this.ended || !(link.paused && link.waiting[d] > 0);
      const lost = link.full[d] + link.lost[d];
      const texts = [bits(link.rate[d]), count(link.pps[d]), count(link.queue[d]), count(link.inflight[d]), count(lost), link.waiting[d] + (link.dropped[d] ? ` −${count(link.dropped[d])}` : "")];
      const cells = $("way-" + dir).cells;
      texts.forEach((t, i) => { if (cells[i + 1].textContent !== t) cells[i + 1].textContent = t; });
      cells[5].title = `${link.full[d]} by the queue, ${link.lost[d]} by chance or while down; ${link.marks[d]} marked`;
      cells[6].title = `held while paused (at most ${link.limit}); ${link.dropped[d]} dropped`;
      cells[3].className = link.queue[d] ? "hot" : "";
      cells[6].className = link.waiting[d] ? "hot" : "";
    });
    const next = $("next"), lines = [];
    if (link.paused) ["out", "in"].forEach((dir) => { const t = link.next[dir === "in" ? 0 : 1]; if (t) lines.push(`${dir.padEnd(3)} ${t}`); });
    const text = lines.join("\n") || (link.paused ? "no packet waits" : "while paused: the packets that wait");
    next.classList.toggle("waits", link.paused);
    if (next.dataset.t !== text) {
      next.dataset.t = text;
      next.replaceChildren(...text.split("\n").map((l) => { const d = document.createElement("div"); d.textContent = d.title = l; return d; }));
    }
    this.showSpec(false);
  }
}
