// The other parts: labels, pairs that are confused, failures, settings.

const CLOSE = 0.5; // a second label with at least this share of the first one's score stands close to it
const SHOWN = 12; // pictures of the surest, and of the most doubtful

const runTitle = run => [run.search ? `search "${run.search.words ?? run.search.like ?? ""}"` : null, run.run?.model?.name ?? "unknown model", run.sources.join(", ")].filter(Boolean).join(" · ");

/** What stands under a label, the surest first: videos by their answer, and segments. Where there are any of these, all by similarity. */
function under(label) {
  const found = videos.flatMap(video => video.segments?.length
    ? video.segments.filter(one => one.label === label).map(segment => ({ video, segment, similarity: segment.similarity }))
    : video.answer === label ? [{ video, segment: null, similarity: video.similarity }] : []);
  const timed = found.some(one => one.segment);
  for (const one of found) [one.sure, one.by] = timed || one.video.sure === null ? [one.similarity ?? -Infinity, "sim."] : [one.video.sure, "sure"];
  return found.sort((a, b) => Boolean(a.video.doubtful) - Boolean(b.video.doubtful) || b.sure - a.sure);
}

function card({ video, segment, sure, by }) {
  const text = [`${by} ${fixed(sure)}`, segment ? `${clock(segment.start)} – ${clock(segment.end)}` : video.doubtful ? "? doubtful" : ""].join("  ");
  return el("button", { type: "button", class: "card", title: video.path, onclick: () => { only({}); choose(video); if (segment) showDetail(video, segment); } },
    picture(video, segment?.peak), el("span", { text: video.name }), el("small", { text }));
}

const gallery = (title, found) => found.length ? el("div", {}, el("h3", { text: title }), el("div", { class: "cards" }, ...found.map(card))) : null;

function fillLabels(counts) {
  const list = el("div", { class: "list", role: "listbox", "aria-label": "Labels" }), page = el("div", { class: "of-label" });
  const labels = [...(counts.has(NONE) ? [NONE] : []), ...data.labels.keys()].sort((a, b) => (counts.get(b) ?? 0) - (counts.get(a) ?? 0) || nameOf(a).localeCompare(nameOf(b)));
  const show = label => {
    for (const one of list.children) {
      const chosen = one.dataset.label === String(label);
      one.setAttribute("aria-selected", String(chosen));
      one.tabIndex = chosen ? 0 : -1;
    }
    page.replaceChildren(...labelPage(label, counts));
  };
  list.append(...labels.map(label => el("button", { type: "button", role: "option", "data-label": String(label), onclick: () => show(label) },
    swatch(label), el("span", { text: nameOf(label) }), el("small", { text: String(counts.get(label) ?? 0) }))));
  list.addEventListener("keydown", event => {
    const next = { ArrowDown: "nextSibling", ArrowUp: "previousSibling" }[event.key], one = next && document.activeElement[next];
    if (!one) return;
    event.preventDefault();
    one.click();
    one.focus();
  });
  $("labels").append(list, page);
  if (labels.length) show(labels[0]);
}

function labelPage(label, counts) {
  const found = under(label), half = Math.min(SHOWN, Math.ceil(found.length / 2)), doubtful = found.filter(one => one.video.doubtful).length;
  const told = data.explanation?.labels[nameOf(label)];
  const parts = told?.parts.map(([seen, weight]) => el("tr", {}, el("td", { text: seen }), el("td", {}, bar(weight)), el("td", { class: "number", text: fixed(weight) })));
  return [
    el("h2", {}, swatch(label), el("span", { text: nameOf(label) })),
    el("p", { class: "quiet", text: `${count(counts.get(label) ?? 0, "video")}${doubtful ? `, ${doubtful} doubtful` : ""}` }),
    counts.get(label) ? el("p", {}, el("button", { type: "button", text: "Show in the table", onclick: () => only({ label: String(label) }) })) : null,
    gallery("Surest", found.slice(0, half)), gallery("Most doubtful", found.slice(half).slice(-SHOWN).reverse()),
    told ? el("div", {}, el("h3", { text: "Composed of" }), el("p", { class: "quiet", text: `${told.kind}; nearest seen class: ${told.nearest} (cosine ${fixed(told.cosine)})` }), el("table", { class: "scores" }, ...parts)) : null,
  ].filter(Boolean);
}

/** Pairs of which the second stood close to the first in a video, and those that the model finds alike. */
function findPairs() {
  const pairs = new Map();
  const pairOf = (one, other) => {
    const key = [one, other].sort().join("\n");
    if (!pairs.has(key)) pairs.set(key, { names: [one, other].sort(), videos: [], cosine: null });
    return pairs.get(key);
  };
  for (const video of videos) {
    const [first, second] = video.top;
    if (!second || !(first[1] > 0) || second[1] < CLOSE * first[1] || video.segments?.length) continue;
    video.pair = [first[0], second[0]];
    pairOf(nameOf(first[0]), nameOf(second[0])).videos.push(video);
  }
  for (const [one, other, cosine] of data.explanation?.alike ?? []) pairOf(one, other).cosine = cosine;
  return [...pairs.values()].sort((a, b) => b.videos.length - a.videos.length || (b.cosine ?? 0) - (a.cosine ?? 0));
}

function fillPairs(pairs) {
  const table = el("table", { class: "wide" });
  table.append(el("tr", {}, el("th", { text: "Labels" }), el("th", { text: "Videos" }), el("th", { text: "Alike (cosine)" }), el("th", { text: "Examples" })));
  for (const { names, videos: found, cosine } of pairs.slice(0, 300)) {
    const labels = names.map(name => data.labels.indexOf(name));
    table.append(el("tr", {}, el("td", {}, ...names.map((name, at) => el("div", {}, swatch(labels[at]), el("span", { text: name })))),
      el("td", {}, found.length ? el("button", { type: "button", text: String(found.length), "aria-label": `Show ${count(found.length, "video")}`, onclick: () => only({ pair: labels }) }) : el("span", { text: "0" })),
      el("td", { class: "number", text: fixed(cosine, 3) }), el("td", { class: "cards" }, ...found.slice(0, 4).map(video => card({ video, segment: null, sure: video.margin, by: "ahead by" })))));
  }
  $("pairs").append(el("h2", { text: "Labels that are confused" }),
    el("p", { class: "quiet", text: `Videos whose second label has at least half the share of the first${data.explanation ? ", and labels whose prototypes are alike (zsar explain)" : "; zsar report --explanation adds which labels are alike to the model"}.` }),
    pairs.length ? table : el("p", { text: "None." }));
}

function fillFailures() {
  const list = (title, found, reason) => found.length ? el("div", {}, el("h2", { text: `${title} (${found.length.toLocaleString("en")})` }),
    el("table", { class: "wide" }, ...found.slice(0, 2000).map(video => el("tr", {}, el("td", {}, el("button", { type: "button", class: "plain", text: video.path, onclick: () => { only({}); choose(video); } })), el("td", { text: reason(video) })))),
    found.length > 2000 ? el("p", { class: "quiet", text: "The first 2,000; the table has all." }) : null) : null;
  const parts = [
    list("Failed", videos.filter(one => one.error), one => `${one.error.stage}: ${one.error.reason}${one.error.decoder ? ` (${one.error.decoder})` : ""}`),
    list("Read in part", videos.filter(one => one.partial), one => `${fixed((one.partial.share ?? 0) * 100, 0)} %: ${one.partial.reason}`),
    list("Without a picture", videos.filter(one => one.no_picture), one => one.no_picture),
  ].filter(Boolean);
  $("failures").append(...(parts.length ? parts : [el("p", { text: "Nothing failed." })]));
}

function fillSettings() {
  const rows = (value, name = "") => value !== null && typeof value === "object" && !Array.isArray(value)
    ? Object.entries(value).flatMap(([key, inner]) => rows(inner, name ? `${name}.${key}` : key))
    : Array.isArray(value) && !value.length ? [] : [el("dt", { text: name }), el("dd", { text: typeof value === "string" ? value : JSON.stringify(value) })];
  for (const run of data.runs) {
    const found = videos.filter(video => video.run === run.number).length;
    $("settings").append(el("article", {}, el("h2", { text: `Run ${run.number + 1}` }), el("p", { class: "quiet", text: `${count(found, "video")}, from ${run.sources.join(", ")}` }),
      el("dl", {}, ...(run.search ? rows(run.search, "search") : []), ...(run.run ? rows(run.run) : [el("dt", { text: "settings" }), el("dd", { text: "the results do not say" })]))));
  }
  $("settings").append(el("p", { class: "quiet", text: `Page made by zsar ${data.zsar}.` }));
}
