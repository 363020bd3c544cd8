// The other parts: labels, pairs that are confused, failures, settings.

const CLOSE = 0.5; // a second label with at least this share of the first one's score stands close to it
const SHOWN = 12; // pictures of the surest, and of the most doubtful

const searched = run => run.search && `search "${run.search.words ?? run.search.like ?? ""}"`;
const runTitle = run => joined([searched(run), run.run?.model?.name ?? "unknown model", run.sources.join(", ")], " · ");

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
  const text = joined([`${by} ${fixed(sure)}`, segment ? timesOf(segment) : video.doubtful && "? doubtful"], "  ");
  const act = () => {
    only({});
    choose(video);
    if (segment) showDetail(video, segment);
  };
  return button(null, act, { class: "card", title: video.path }, picture(video, segment?.peak), span(video.name), el("small", { text }));
}

const gallery = (title, found) => found.length
  ? el("div", {}, el("h3", { text: title }), el("div", { class: "cards" }, ...found.map(card))) : null;

function fillLabels(counts) {
  const list = el("div", { class: "list", role: "listbox", "aria-label": "Labels" }), page = el("div", { class: "of-label" });
  const often = label => counts.get(label) ?? 0;
  const labels = [...(counts.has(NONE) ? [NONE] : []), ...data.labels.keys()];
  labels.sort((a, b) => often(b) - often(a) || nameOf(a).localeCompare(nameOf(b)));
  const show = label => {
    for (const one of list.children) {
      const chosen = one.dataset.label === String(label);
      one.setAttribute("aria-selected", String(chosen));
      one.tabIndex = chosen ? 0 : -1;
    }
    page.replaceChildren(...labelPage(label, often(label)));
  };
  list.append(...labels.map(label => button(null, () => show(label), { role: "option", "data-label": String(label) },
    swatch(label), span(nameOf(label)), el("small", { text: often(label) }))));
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

function labelPage(label, number) {
  const found = under(label), half = Math.min(SHOWN, Math.ceil(found.length / 2));
  const doubtful = some(found.filter(one => one.video.doubtful).length, "doubtful");
  return [
    el("h2", {}, swatch(label), span(nameOf(label))),
    quiet(joined([count(number, "video"), doubtful], ", ")),
    number ? el("p", {}, button("Show in the table", () => only({ label }))) : null,
    gallery("Surest", found.slice(0, half)), gallery("Most doubtful", found.slice(half).slice(-SHOWN).reverse()),
    composition(data.explanation?.labels.find(one => one.label === nameOf(label))),
  ].filter(Boolean);
}

function composition(told) {
  if (!told) return null;
  const parts = told.parts.map(([seen, weight]) => el("tr", {},
    el("td", { text: seen }), el("td", {}, bar(weight)), el("td", { class: "number", text: fixed(weight) })));
  return el("div", {}, el("h3", { text: "Composed of" }),
    quiet(`${told.kind}; nearest seen class: ${told.nearest} (cosine ${fixed(told.cosine)})`), el("table", { class: "scores" }, ...parts));
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
  const alike = data.explanation ? ", and labels whose prototypes are alike (zsar explain)" : "; zsar report --explanation adds which are alike to the model";
  $("pairs").append(el("h2", { text: "Labels that are confused" }),
    quiet(`Videos whose second label has at least half the share of the first${alike}.`),
    pairs.length ? el("table", { class: "wide" },
      el("tr", {}, ...["Labels", "Videos", "Alike (cosine)", "Examples"].map(text => el("th", { text }))),
      ...pairs.slice(0, 300).map(pairRow)) : el("p", { text: "None." }));
}

function pairRow({ names, videos: found, cosine }) {
  const pair = names.map(name => data.labels.indexOf(name));
  const show = button(found.length, () => only({ pair }), { "aria-label": `Show ${count(found.length, "video")}` });
  return el("tr", {}, el("td", {}, ...names.map((name, at) => el("div", {}, swatch(pair[at]), span(name)))),
    el("td", {}, found.length ? show : "0"), el("td", { class: "number", text: fixed(cosine, 3) }),
    el("td", { class: "cards" }, ...found.slice(0, 4).map(video => card({ video, segment: null, sure: video.margin, by: "lead" }))));
}

function fillFailures() {
  const row = (video, reason) => el("tr", {},
    el("td", {}, button(video.path, () => { only({}); choose(video); }, { class: "plain" })), el("td", { text: reason(video) }));
  const list = (title, found, reason) => found.length ? el("div", {}, el("h2", { text: `${title} (${found.length.toLocaleString("en")})` }),
    el("table", { class: "wide" }, ...found.slice(0, 2000).map(video => row(video, reason))),
    found.length > 2000 ? quiet("The first 2,000; the table has all.") : null) : null;
  const parts = [
    list("Failed", videos.filter(one => one.error), ({ error }) => joined([`${error.stage}: ${error.reason}`, error.decoder && `(${error.decoder})`], " ")),
    list("Read in part", videos.filter(one => one.partial), one => partText(one.partial)),
    list("Without a picture", videos.filter(one => one.no_picture), one => one.no_picture),
  ].filter(Boolean);
  $("failures").append(...(parts.length ? parts : [el("p", { text: "Nothing failed." })]));
}

/** Names and values of settings, those within others with both names. */
function settingsOf(value, name = "") {
  if (Array.isArray(value) && !value.length) return [];
  if (value === null || typeof value !== "object" || Array.isArray(value)) {
    return [el("dt", { text: name }), el("dd", { text: typeof value === "string" ? value : JSON.stringify(value) })];
  }
  return Object.entries(value).flatMap(([key, inner]) => settingsOf(inner, joined([name, key], ".")));
}

function fillSettings() {
  for (const run of data.runs) {
    const found = count(videos.filter(video => video.run === run.number).length, "video");
    $("settings").append(el("article", {}, el("h2", { text: `Run ${run.number + 1}` }), quiet(`${found}, from ${run.sources.join(", ")}`),
      el("dl", {}, ...(run.search ? settingsOf(run.search, "search") : []), ...settingsOf(run.run ?? "the results do not say", run.run ? "" : "settings"))));
  }
  $("settings").append(quiet(`Page made by zsar ${data.zsar}.`));
}
