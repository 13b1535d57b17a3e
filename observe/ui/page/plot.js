// Plots of series over the last minute, on a canvas.

const pad = { left: 66, right: 8, top: 6, bottom: 18 };

// nice is the least of 1, 2, 2.5, 5 times a power of base that is not below n.
function nice(n, base) {
  if (!(n > 0)) return 1;
  const unit = base ** Math.floor(Math.log(n) / Math.log(base) + 1e-9);
  if (base === 1024) {
    for (let p = 1; p < 1024; p *= 2) if (p * unit >= n) return p * unit;
    return 1024 * unit;
  }
  const p10 = 10 ** Math.floor(Math.log10(n) + 1e-9);
  for (const k of [1, 2, 2.5, 5, 10]) if (k * p10 >= n * 0.9999) return k * p10;
  return 10 * p10;
}

// Plot draws lines { name, color, values, end, dash, fill, brief } whose values
// are those of the ticks before end, and marks { tick, color } at the bottom.
export class Plot {
  constructor(figure, { title, format, base = 10, least = 1, empty = "" }) {
    Object.assign(this, { figure, title, format, base, least, empty, lines: [], marks: [] });
    figure.innerHTML = `<figcaption><b></b><span class="dim note"></span><span class="legend"></span></figcaption><div class="area"><canvas role="img"></canvas></div>`;
    figure.querySelector("b").textContent = title;
    this.canvas = figure.querySelector("canvas");
    this.legend = figure.querySelector(".legend");
    this.note = figure.querySelector(".note");
    this.canvas.addEventListener("pointermove", (e) => this.onhover?.(this, e.offsetX));
    this.canvas.addEventListener("pointerleave", () => this.onhover?.(null));
  }

  // draw draws for the clock { n, hz, keep, time(tick) }. hover is a tick or null.
  draw(clock, hover) {
    const c = this.canvas, ratio = devicePixelRatio || 1;
    const w = c.clientWidth, h = c.clientHeight;
    if (!w || !h) return;
    if (c.width !== Math.round(w * ratio) || c.height !== Math.round(h * ratio)) {
      c.width = Math.round(w * ratio);
      c.height = Math.round(h * ratio);
    }
    const g = c.getContext("2d"), css = getComputedStyle(document.documentElement);
    const ink = css.getPropertyValue("--dim"), grid = css.getPropertyValue("--line"), bad = css.getPropertyValue("--bad");
    g.setTransform(ratio, 0, 0, ratio, 0, 0);
    g.clearRect(0, 0, w, h);
    const first = clock.n - clock.keep, box = { x: pad.left, y: pad.top, w: w - pad.left - pad.right, h: h - pad.top - pad.bottom };
    this.x = (tick) => box.x + ((tick - first) / clock.keep) * box.w;
    this.tickAt = (px) => Math.round(first + ((px - box.x) / box.w) * clock.keep);

    let most = this.least;
    for (const l of this.lines) {
      const start = l.end - l.values.length;
      for (let i = Math.max(0, first - start); i < l.values.length; i++) if (l.values[i] > most) most = l.values[i];
    }
    const top = nice(most * 1.04, this.base);
    const y = (v) => box.y + box.h * (1 - v / top);

    g.font = "11px system-ui, sans-serif";
    g.textBaseline = "middle";
    g.fillStyle = ink;
    g.strokeStyle = grid;
    g.lineWidth = 1;
    const steps = box.h > 90 ? 4 : 2;
    g.textAlign = "right";
    for (let i = 0; i <= steps; i++) {
      const v = (top * i) / steps, py = Math.round(y(v)) + 0.5;
      g.globalAlpha = i === 0 ? 1 : 0.6;
      g.beginPath(); g.moveTo(box.x, py); g.lineTo(box.x + box.w, py); g.stroke();
      g.globalAlpha = 1;
      if (i % 2 === 0) g.fillText(i === 0 ? "0" : this.format(v).replace(/\.0+ |(\.\d*?)0+ /, "$1 "), box.x - 6, Math.max(6, py));
    }
    // Seconds since the start, every ten.
    g.textBaseline = "alphabetic";
    g.textAlign = "center";
    const now = clock.time(clock.n), span = clock.keep / clock.hz, every = box.w / span < 3.2 ? 20 : 10;
    for (let s = Math.ceil(Math.max(0, now - span) / every) * every; s <= now; s += every) {
      const px = box.x + (1 - (now - s) / span) * box.w;
      g.globalAlpha = 0.6;
      g.beginPath(); g.moveTo(Math.round(px) + 0.5, box.y); g.lineTo(Math.round(px) + 0.5, box.y + box.h); g.stroke();
      g.globalAlpha = 1;
      if (px > box.x + 6 && px < box.x + box.w - 26) g.fillText(String(s), px, h - 4);
    }
    g.textAlign = "right";
    g.fillText("s", box.x + box.w, h - 4);

    g.save();
    g.beginPath(); g.rect(box.x, 0, box.w + 1, box.y + box.h + 1); g.clip();
    g.lineJoin = "round";
    let drawn = false;
    for (const l of this.lines) {
      const start = l.end - l.values.length, from = Math.max(0, first - start - 1);
      if (from >= l.values.length) continue;
      drawn = true;
      g.strokeStyle = g.fillStyle = l.color;
      g.lineWidth = l.dash ? 1.1 : 1.6;
      g.setLineDash(l.dash ? [4, 3] : []);
      g.beginPath();
      for (let i = from; i < l.values.length; i++) {
        const px = this.x(start + i + 1), py = y(l.values[i]);
        i === from ? g.moveTo(px, py) : g.lineTo(px, py);
      }
      g.stroke();
      if (l.fill) {
        g.lineTo(this.x(l.end), y(0)); g.lineTo(this.x(start + from + 1), y(0)); g.closePath();
        g.globalAlpha = 0.1; g.fill(); g.globalAlpha = 1;
      }
    }
    g.setLineDash([]);
    for (const m of this.marks) {
      if (m.tick < first) continue;
      g.fillStyle = m.color || bad;
      g.fillRect(this.x(m.tick + 1) - 1, box.y + box.h - (m.high ? 13 : 7), 2, m.high ? 13 : 7);
    }
    if (hover !== null && hover >= first && hover <= clock.n) {
      g.strokeStyle = ink;
      g.lineWidth = 1;
      const px = Math.round(this.x(hover)) + 0.5;
      g.beginPath(); g.moveTo(px, box.y); g.lineTo(px, box.y + box.h); g.stroke();
    }
    g.restore();
    if (!drawn && this.empty) {
      g.fillStyle = ink; g.textAlign = "center"; g.font = "12px system-ui, sans-serif";
      g.fillText(this.empty, box.x + box.w / 2, box.y + box.h / 2);
    }
    this.writeLegend();
  }

  // at are the values at a tick, for the tooltip.
  at(tick) {
    const rows = [];
    for (const l of this.lines) {
      const v = l.values[tick - 1 - (l.end - l.values.length)];
      if (v !== undefined) rows.push({ name: l.name, color: l.color, text: this.format(v) });
    }
    return rows;
  }

  writeLegend() {
    const key = this.lines.map((l) => l.name + l.color + !!l.dash + l.values[l.values.length - 1]).join() + (this.extra || "");
    if (key === this.legendKey) return;
    this.legendKey = key;
    const most = this.lines.length > 3 ? 2 : 3, brief = this.lines.every((l) => l.brief) && this.lines.length > 2;
    const items = this.lines.slice(0, brief ? 2 : most).map((l) => {
      const s = document.createElement("span"), i = document.createElement("i"), v = l.values[l.values.length - 1];
      i.style.color = l.color;
      if (l.dash) i.className = "dash";
      s.append(i, l.name + (l.brief || v === undefined ? "" : " " + this.format(v)));
      return s;
    });
    const more = this.lines.length - items.length;
    for (const text of [more > 0 && `+${more}`, this.extra]) {
      if (!text) continue;
      const s = document.createElement("span");
      s.textContent = text;
      items.push(s);
    }
    this.legend.replaceChildren(...items);
    this.canvas.setAttribute("aria-label", this.title + ": " + items.map((s) => s.textContent).join(", "));
  }
}
