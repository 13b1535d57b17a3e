// Tables: one that is sorted and updated in place, and one of the latest events.

function cell(column, tag = "td") {
  const c = document.createElement(tag);
  c.className = column.class || "";
  return c;
}

// SortTable shows rows by key. Columns are { name, title, class, text(row),
// value(row) to sort by, render(td, row) instead of text }.
export class SortTable {
  constructor(table, columns, { sort, descending = false, empty = "", rowClass = () => "", onclick } = {}) {
    Object.assign(this, { table, columns, sort, descending, empty, rowClass, onclick, rows: new Map(), trs: new Map() });
    const tr = document.createElement("tr");
    columns.forEach((col, i) => {
      const th = cell(col, "th");
      th.scope = "col";
      if (col.title) th.title = col.title;
      const b = document.createElement(col.value ? "button" : "span");
      b.textContent = col.name;
      if (col.value) b.addEventListener("click", () => this.sortBy(i));
      th.append(b);
      tr.append(th);
    });
    this.head = table.createTHead();
    this.head.append(tr);
    this.body = table.createTBody();
    this.markSort();
    this.arrange();
  }

  sortBy(i) {
    this.descending = this.sort === i ? !this.descending : this.columns[i].class?.includes("r") || false;
    this.sort = i;
    this.markSort();
    this.arrange();
  }

  markSort() {
    [...this.head.rows[0].cells].forEach((th, i) => {
      if (i === this.sort) th.setAttribute("aria-sort", this.descending ? "descending" : "ascending");
      else th.removeAttribute("aria-sort");
    });
  }

  set(key, row) {
    this.rows.set(key, row);
    let tr = this.trs.get(key);
    if (!tr) {
      tr = document.createElement("tr");
      tr.dataset.key = key;
      for (const col of this.columns) tr.append(cell(col));
      if (this.onclick) {
        tr.tabIndex = 0;
        tr.addEventListener("click", () => this.onclick(key));
        tr.addEventListener("keydown", (e) => {
          if (e.key === "Enter" || e.key === " ") { e.preventDefault(); this.onclick(key); }
        });
      }
      this.trs.set(key, tr);
      this.dirty = true;
    }
    const cls = (this.onclick ? "click " : "") + this.rowClass(row);
    if (tr.className !== cls) tr.className = cls;
    this.columns.forEach((col, i) => {
      const td = tr.cells[i];
      if (col.render) return col.render(td, row);
      const text = col.text(row);
      if (td.dataset.t !== text) { td.textContent = td.dataset.t = text; if (col.class?.includes("grow")) td.title = text; }
    });
  }

  delete(key) {
    this.rows.delete(key);
    this.trs.get(key)?.remove();
    this.trs.delete(key);
    this.dirty = true;
  }

  clear() {
    for (const key of [...this.rows.keys()]) this.delete(key);
  }

  // arrange puts the rows in order, those that show is true of.
  arrange(show = this.show || (() => true)) {
    this.show = show;
    const col = this.columns[this.sort], sign = this.descending ? -1 : 1;
    const keys = [...this.rows.keys()].filter((k) => show(this.rows.get(k)));
    keys.sort((a, b) => {
      const x = col.value(this.rows.get(a)), y = col.value(this.rows.get(b));
      return sign * (x < y ? -1 : x > y ? 1 : 0) || (a < b ? -1 : 1);
    });
    if (keys.length === 0) {
      const tr = document.createElement("tr"), td = document.createElement("td");
      td.className = "empty";
      td.colSpan = this.columns.length;
      td.textContent = this.empty;
      tr.append(td);
      this.body.replaceChildren(tr);
      return;
    }
    const order = keys.map((k) => this.trs.get(k));
    if (order.length !== this.body.rows.length || order.some((tr, i) => this.body.rows[i] !== tr)) {
      const focused = document.activeElement;
      this.body.replaceChildren(...order);
      if (focused?.parentElement === this.body && document.activeElement !== focused) focused.focus({ preventScroll: true });
    }
  }
}

const shown = 200;

// Log shows the latest events, newest first, those that pass a filter.
export class Log {
  constructor(table, columns, { keep = 500, empty, text, rowClass = () => "", filter, hold, note }) {
    Object.assign(this, { columns, keep, empty, text, rowClass, filter, hold, note, all: [], held: 0, accept: () => true });
    const tr = document.createElement("tr");
    for (const col of columns) {
      const th = cell(col, "th");
      th.scope = "col";
      const s = document.createElement("span");
      s.textContent = col.name;
      th.append(s);
      tr.append(th);
    }
    table.createTHead().append(tr);
    this.body = table.createTBody();
    filter.addEventListener("input", () => this.redraw());
    hold.addEventListener("click", () => {
      const on = hold.getAttribute("aria-pressed") !== "true";
      hold.setAttribute("aria-pressed", on);
      if (!on) this.redraw();
      this.writeNote();
    });
    this.redraw();
  }

  get holding() { return this.hold.getAttribute("aria-pressed") === "true"; }

  add(events, more = false) {
    this.more = more;
    if (!events.length) return this.writeNote();
    this.all.push(...events);
    if (this.all.length > this.keep) this.all.splice(0, this.all.length - this.keep);
    if (this.holding) {
      this.held += events.length;
      return this.writeNote();
    }
    const match = this.matcher();
    const trs = events.filter(match).slice(-shown).reverse().map((e) => this.row(e));
    if (trs.length) {
      if (this.isEmpty) this.body.replaceChildren();
      this.isEmpty = false;
      this.body.prepend(...trs);
      while (this.body.rows.length > shown) this.body.lastElementChild.remove();
    }
    this.writeNote();
  }

  // matcher is what the filter says: all words, none of those behind a minus.
  matcher() {
    const words = this.filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    return (e) => {
      if (!this.accept(e)) return false;
      const t = this.text(e).toLowerCase();
      return words.every((w) => w.length > 1 && w[0] === "-" ? !t.includes(w.slice(1)) : t.includes(w));
    };
  }

  row(e) {
    const tr = document.createElement("tr");
    tr.className = this.rowClass(e);
    for (const col of this.columns) {
      const td = cell(col);
      td.textContent = col.text(e);
      if (col.class?.includes("grow")) td.title = td.textContent;
      if (col.mark) td.classList.add(col.mark(e));
      tr.append(td);
    }
    return tr;
  }

  redraw() {
    this.held = 0;
    const rows = this.all.filter(this.matcher()).slice(-shown).reverse().map((e) => this.row(e));
    this.isEmpty = rows.length === 0;
    if (this.isEmpty) {
      const tr = document.createElement("tr"), td = document.createElement("td");
      td.className = "empty";
      td.colSpan = this.columns.length;
      td.textContent = this.all.length ? "nothing passes the filter" : this.empty;
      tr.append(td);
      rows.push(tr);
    }
    this.body.replaceChildren(...rows);
    this.writeNote();
  }

  writeNote() {
    const n = [];
    if (this.about) n.push(this.about);
    if (this.holding) n.push(`held, ${this.held} more`);
    else if (this.more) n.push("more than shown");
    this.note.textContent = n.join("; ");
  }
}
