// The chosen video: its picture or the file itself, its timeline, its labels.

const detail = { segment: null }; // the segment that keys correct, where one was clicked

function showDetail(video, segment = null) {
  detail.segment = segment;
  const stage = el("div", { class: "stage" }, picture(video, segment?.peak));
  const parts = [stage, el("h2", { text: video.name, title: video.path }), el("p", { class: "path", text: video.path })];
  if (video.error) parts.push(el("p", { class: "bad", text: `${video.error.stage} failed: ${video.error.reason}` }));
  const start = () => play(video, detail.segment?.start ?? 0);
  if (video.place !== undefined) parts.push(el("p", {}, button("▶ Play", start, { title: "Play the file (Enter)" })));
  if (video.segments?.length) parts.push(timeline(video));
  if (!video.error) parts.push(correction(video));
  parts.push(facts(video));
  $("detail").replaceChildren(...parts);
}

/** Lanes, one for each label; every segment is a button. */
function timeline(video) {
  const lanes = new Map();
  for (const one of video.segments) lanes.set(one.label, [...(lanes.get(one.label) ?? []), one]);
  const box = el("div", { class: "timeline", role: "group", "aria-label": "Timeline" });
  for (const [label, segments] of lanes) {
    box.append(el("span", { class: "lane-name", title: nameOf(label) }, swatch(label), span(nameOf(label))),
      el("span", { class: "lane" }, ...segments.map(one => segmentButton(video, one))));
  }
  const seconds = [0, 0.25, 0.5, 0.75, 1].map(share => el("small", { text: clock(video.end * share, video.end < 60) }));
  box.append(el("span"), el("span", { class: "axis", "aria-hidden": "true" }, ...seconds));
  if (video.more_segments) box.append(quiet(`The best ${video.segments.length}; ${video.more_segments} more are in the results.`));
  return box;
}

function segmentButton(video, one) {
  const right = corrections.get(keyOf(video, one));
  const numbers = `score ${fixed(one.score)}, similarity ${fixed(one.similarity)}${right !== undefined ? `, corrected: ${right}` : ""}`;
  const said = `${nameOf(one.label)}, ${timesOf(one)}, ${numbers}`, tell = event => showTip(event.target, said);
  const act = () => {
    showDetail(video, one);
    play(video, one.start);
    document.querySelector(".segment[aria-pressed=true]")?.focus();
  };
  return button(null, act, {
    class: `segment${right !== undefined ? " corrected" : ""}`, "aria-label": said, "aria-pressed": String(one === detail.segment),
    style: spanOf(video, one), onmouseenter: tell, onfocus: tell, onmouseleave: hideTip, onblur: hideTip,
  });
}

function showTip(target, text) {
  const box = target.getBoundingClientRect(), tip = $("tip");
  tip.textContent = shown(text);
  tip.hidden = false;
  tip.style.left = `${Math.max(8, Math.min(box.left, innerWidth - tip.offsetWidth - 8))}px`;
  tip.style.top = `${box.top > tip.offsetHeight + 12 ? box.top - tip.offsetHeight - 6 : box.bottom + 6}px`;
}

function hideTip() { $("tip").hidden = true; }

/** The file from a second on; where the browser cannot play it the picture stays, and a line says so. */
function play(video, second) {
  const stage = document.querySelector("#detail .stage");
  if (video.place === undefined || !stage) return;
  const player = el("video", { controls: true, preload: "metadata", "aria-label": video.name, src: video.place });
  player.addEventListener("loadedmetadata", () => { player.currentTime = second; });
  player.addEventListener("canplay", () => { stage.replaceChildren(player); player.play().catch(() => undefined); }, { once: true });
  const nearest = video.picture === undefined ? "" : " This is the nearest picture.";
  const why = `The browser cannot play this file: it is not where it was, or of a kind that it does not know.${nearest}`;
  player.addEventListener("error", () => stage.replaceChildren(picture(video, second), quiet(why)));
}

/** The first labels with their numbers; each is a button that makes it the right answer, and so does any other text. */
function correction(video) {
  const segment = detail.segment, right = corrections.get(keyOf(video, segment)), choices = choicesOf(video, segment);
  const other = right !== undefined && !choices.some(label => nameOf(label) === right) ? right : null;
  const input = el("input", { id: "other", type: "text", list: "names", placeholder: "another label  ( c )", "aria-label": "Another label", value: other });
  const set = event => {
    event.preventDefault();
    if (input.value.trim()) correct(video, segment, input.value.trim());
    $("table").focus();
  };
  const share = segment || !video.top.length ? "" : isCalibrated(video) ? "Prob." : "Share";
  return el("div", { class: "correction", role: "group", "aria-label": "Right answer" },
    video.doubtful ? el("p", { class: "doubt", text: ["? doubtful", video.reasons.join("; ")].filter(Boolean).join(": ") }) : null,
    el("p", { class: "choice quiet" }, span(segment ? `Right label of ${timesOf(segment)}` : "Right answer", "wide-cell"), span(share), span("Sim.", "number")),
    ...choices.map((label, at) => choice(video, segment, label, at + 1)),
    el("form", { onsubmit: set }, input),
    right !== undefined ? button("Take back (x)", () => correct(video, segment, undefined), { class: "plain" }) : null);
}

const isCalibrated = video => video.top.some(one => one[3] !== null);

/** A label with its key and numbers: of the video or, for a segment, the similarity of the best one at its time. */
function choice(video, segment, label, key) {
  const [, score, similarity, probability] = segment
    ? [label, null, beside(video, segment).find(one => one.label === label)?.similarity, null]
    : video.top.find(one => one[0] === label) ?? [];
  const value = isCalibrated(video) ? probability : score, known = value !== null && value !== undefined;
  const props = { class: "choice", "aria-pressed": String(corrections.get(keyOf(video, segment)) === nameOf(label)) };
  return button(null, () => correct(video, segment, nameOf(label)), props, el("kbd", { text: key }), swatch(label), span(nameOf(label)),
    known ? bar(value) : el("span"), span(known ? fixed(value, 3) : "", "number"), span(fixed(similarity), "number"));
}

/** Segments of the same time as one of them, the best first. */
const beside = (video, segment) => video.segments
  .filter(one => one.start < segment.end && one.end > segment.start).sort((a, b) => b.similarity - a.similarity);

/** Labels that the number keys stand for. */
function choicesOf(video, segment) {
  const first = segment ? [segment.label, ...beside(video, segment).map(one => one.label)] : [video.answer];
  const all = [...first, ...video.top.map(one => one[0]), ...(video.segments ?? []).map(one => one.label)];
  return [...new Set(all)].filter(label => label !== undefined && label !== NONE).slice(0, 5);
}

function facts(video) {
  const lines = [
    ["length", video.duration !== undefined ? clock(video.duration) : null], ["size", video.size?.join(" × ")],
    ["unknown", video.unsure !== undefined ? fixed(video.unsure) : null], ["read", video.partial && partText(video.partial)],
    ["notes", video.notes.join("; ")], ["picture", video.no_picture],
    ["run", data.runs.length > 1 ? `${video.run + 1}: ${runTitle(data.runs[video.run])}` : null],
  ];
  return el("dl", {}, ...lines.filter(one => one[1]).flatMap(([name, value]) => [el("dt", { text: name }), el("dd", { text: value })]));
}
