"use strict";
// What the page knows, and how it is said. Text of others becomes text of the page here, in `el` and `shown` alone.

const data = JSON.parse(document.getElementById("data").textContent);
const videos = data.videos;
const FROM = ["label", "start", "end", "score", "similarity", "peak"];

const $ = id => document.getElementById(id);

/** An element; `text` is shown as it is, never read as HTML. Keys that begin with "on" are listeners. */
function el(tag, props = {}, ...children) {
  const made = document.createElement(tag);
  for (const [key, value] of Object.entries(props)) {
    if (value === undefined || value === null || value === false) continue;
    if (key === "text") made.textContent = shown(value);
    else if (key === "style") Object.assign(made.style, value);
    else if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else made.setAttribute(key, typeof value === "string" ? shown(value) : value === true ? "" : value);
  }
  made.append(...children.filter(child => child !== null && child !== undefined));
  return made;
}

const button = (text, onclick, props = {}, ...children) => el("button", { type: "button", text, onclick, ...props }, ...children);
const span = (text, kind) => el("span", { text, class: kind });
const quiet = text => el("p", { class: "quiet", text });

/** Text in which what could turn or hide other text stands as an escape, as in zsar's tables. */
function shown(text) {
  return String(text).replace(/(?![\u200c\u200d])[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu, one => {
    const code = one.codePointAt(0);
    return code < 256 ? `\\x${code.toString(16).padStart(2, "0")}` : `\\u${code.toString(16).padStart(4, "0")}`;
  });
}

const fixed = (value, digits = 2) => value === null || value === undefined ? "–" : value.toFixed(digits);
const count = (number, one, many = `${one}s`) => `${number.toLocaleString("en")} ${number === 1 ? one : many}`;
const NONE = -1; // the number of the answer that none of the labels fits
const nameOf = label => label === NONE ? "none of these" : data.labels[label] ?? "no answer";

/** Seconds as 0:07.5 or 1:02:07.5. */
function clock(seconds, tenths = true) {
  if (seconds === undefined || seconds === null) return "–";
  const whole = tenths ? Math.round(seconds * 10) / 10 : Math.round(seconds);
  const minutes = Math.floor(whole / 60) % 60, hours = Math.floor(whole / 3600);
  const rest = (whole % 60).toFixed(tenths ? 1 : 0).padStart(tenths ? 4 : 2, "0");
  return hours ? `${hours}:${String(minutes).padStart(2, "0")}:${rest}` : `${minutes}:${rest}`;
}

function prepare() {
  videos.forEach((video, number) => {
    video.number = number;
    const cut = Math.max(video.path.lastIndexOf("/"), data.windows ? video.path.lastIndexOf("\\") : -1) + 1;
    video.folder = video.path.slice(0, cut);
    video.name = video.path.slice(cut);
    video.top ??= [];
    video.reasons ??= [];
    video.notes ??= [];
    video.segments = video.segments?.map(one => Object.fromEntries(FROM.map((key, at) => [key, one[at]])));
    video.end = Math.max(video.duration ?? 0, ...(video.segments ?? []).map(one => one.end));
    const [first, second] = video.top, found = video.segments?.map(one => one.similarity) ?? [];
    const shares = second && first[1] !== null && second[1] !== null; // spreadsheets have none
    video.margin = shares && !found.length ? first[1] - second[1] : null;
    video.similarity = found.length ? Math.max(...found) : first?.[2] ?? null;
    const sure = video.answer === first?.[0] ? first?.[3] : null;
    video.sure = sure ?? (video.unsure !== undefined ? 1 - video.unsure : video.margin);
    const words = [video.path, nameOf(video.answer), ...labelsOf(video).map(nameOf), ...video.reasons, ...video.notes];
    video.words = [...words, video.error?.reason ?? ""].join("\n").toLowerCase();
  });
}

const timesOf = segment => `${clock(segment.start)} – ${clock(segment.end)}`;
const partText = ({ share, reason }) => `${fixed((share ?? 0) * 100, 0)} %: ${reason}`;
const some = (number, what) => number ? `${number.toLocaleString("en")} ${what}` : null;
const joined = (parts, by) => parts.filter(Boolean).join(by);

/** Where a segment stands in the line of its video, in its colour. */
const spanOf = (video, { start, end, label }) =>
  ({ left: `${start / video.end * 100}%`, width: `${(end - start) / video.end * 100}%`, ...paint(label) });

/** Labels that a video is found under: its answer and those of its segments. */
function labelsOf(video) {
  const found = new Set(video.segments?.map(one => one.label));
  if (video.answer !== undefined) found.add(video.answer);
  return [...found];
}

// Eight colours that people with any colour vision can tell apart (each pair at least 0.09 apart in OKLab, also as seen
// without one kind of cone), then the same with stripes; always beside the name.
const HUES = ["#6d7bca", "#d97348", "#10ac8f", "#966481", "#57cfd4", "#a43b35", "#d9b931", "#5954af"];
const ANGLES = [null, "45deg", "-45deg", "0deg", "90deg"];
const ranks = new Map();

function rankLabels() {
  const counts = new Map();
  for (const video of videos) for (const label of labelsOf(video)) counts.set(label, (counts.get(label) ?? 0) + 1);
  const order = [...counts.keys()].filter(label => label !== NONE).sort((a, b) => counts.get(b) - counts.get(a) || a - b);
  order.forEach((label, rank) => ranks.set(label, rank));
  return counts;
}

/** The look of a label, as the style of an element. */
function paint(label) {
  if (!ranks.has(label)) return { background: "var(--faint)" };
  const rank = ranks.get(label), hue = HUES[rank % HUES.length], angle = ANGLES[Math.floor(rank / HUES.length) % ANGLES.length];
  const stripes = `${hue} 0 4px, color-mix(in srgb, ${hue} 50%, var(--page)) 4px 6px`;
  return { background: angle ? `repeating-linear-gradient(${angle}, ${stripes})` : hue };
}

const swatch = label => el("i", { class: "swatch", "aria-hidden": "true", style: paint(label) });

/** The picture of a video nearest to a second of it, or a place without one that says why. */
function picture(video, second = null) {
  const box = el("span", { class: "picture" });
  if (video.picture === undefined) {
    const why = video.error ? "failed" : video.no_picture ? "no picture" : "";
    box.append(el("span", { class: "nothing", text: why, title: video.no_picture ?? video.error?.reason }));
    return box;
  }
  const [jpeg, width, height, times] = data.pictures[video.picture];
  const wanted = second ?? times[Math.floor(times.length / 2)];
  const at = times.reduce((best, time, place) => Math.abs(time - wanted) < Math.abs(times[best] - wanted) ? place : best, 0);
  const wide = width / height > 16 / 9;
  box.append(el("span", {
    class: "frame", role: "img", "aria-label": `${video.name} at ${clock(times[at])}`,
    style: {
      aspectRatio: `${width} / ${height}`, [wide ? "width" : "height"]: "100%",
      backgroundImage: `url(data:image/jpeg;base64,${jpeg})`,
      backgroundSize: `${times.length * 100}% 100%`,
      backgroundPosition: times.length > 1 ? `${at / (times.length - 1) * 100}% 0` : "0 0",
    },
  }));
  return box;
}

/** For the eye: how much of a whole. */
const bar = (share, style = {}) => el("span", { class: "bar", "aria-hidden": "true" },
  el("i", { style: { width: `${Math.max(0, Math.min(1, share || 0)) * 100}%`, ...style } }));
