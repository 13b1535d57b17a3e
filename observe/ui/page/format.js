// Numbers with units, in few characters.

const thousands = ["", "k", "M", "G", "T", "P"];

// scaled is n with three digits and one of the prefixes.
function scaled(n, base, unit, space = " ") {
  let i = 0;
  while (Math.abs(n) >= base * 0.9995 && i < thousands.length - 1) { n /= base; i++; }
  const digits = i === 0 && Number.isInteger(n) ? 0 : Math.abs(n) >= 99.95 ? 0 : Math.abs(n) >= 9.995 ? 1 : 2;
  return n.toFixed(digits) + space + (base === 1024 && i > 0 ? thousands[i].toUpperCase() + "i" : thousands[i]) + unit;
}

export const bytes = (n) => scaled(n, 1024, "B");
export const bits = (bytesPerSecond) => scaled(bytesPerSecond * 8, 1000, "bit/s");
export const count = (n) => scaled(n, 1000, "", "");

// ms is a time given in milliseconds.
export function ms(n) {
  if (n >= 10000) return (n / 1000).toFixed(1) + " s";
  return (n >= 99.95 ? n.toFixed(0) : n >= 9.995 ? n.toFixed(1) : n.toFixed(2)) + " ms";
}

// us is a time given in microseconds.
export const us = (n) => n < 1000 ? n.toFixed(0) + " µs" : ms(n / 1000);

export function clock(s) {
  if (s < 60) return s.toFixed(1) + " s";
  const m = Math.floor(s / 60);
  const rest = Math.floor(s % 60).toString().padStart(2, "0");
  return m < 60 ? `${m}:${rest} min` : `${Math.floor(m / 60)}:${(m % 60).toString().padStart(2, "0")}:${rest} h`;
}

// Durations in Go's words (time.ParseDuration), in milliseconds; NaN if it is none.
const units = { ns: 1e-6, us: 1e-3, "µs": 1e-3, "μs": 1e-3, ms: 1, s: 1e3, m: 6e4, h: 36e5 };
export function parseDuration(text) {
  let sum = 0, at = 0;
  const re = /([0-9]*\.?[0-9]+)(ns|us|µs|μs|ms|s|m|h)/gy;
  for (let m; (m = re.exec(text)); at = re.lastIndex) sum += Number(m[1]) * units[m[2]];
  return at === text.length && at > 0 ? sum : text === "0" ? 0 : NaN;
}

// Rates in the impairments' words, in Mbit/s; NaN if it is none.
const rates = { bit: 1e-6, kbit: 1e-3, mbit: 1, gbit: 1e3 };
export function parseRate(text) {
  const m = /^([0-9]*\.?[0-9]+)([kmg]?bit)$/.exec(text);
  return m ? Number(m[1]) * rates[m[2]] : NaN;
}

export function formatRate(mbit) {
  if (mbit >= 1) return Number(mbit.toPrecision(6)) + "mbit";
  return Number((mbit * 1000).toPrecision(6)) + "kbit";
}
