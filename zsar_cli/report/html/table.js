// The table: filters, order, and rows of which only those in view exist.

const ROW = 68; // pixels, as in report.css
const SPARE = 6; // rows beyond the view on both sides
const COLUMNS = [
  { key: "name", title: "Video", of: video => video.name.toLowerCase() },
  { key: "answer", title: "Answer", of: video => nameOf(video.answer).toLowerCase() },
  { key: "top", title: "Top labels", fixed: true },
  { key: "sure", title: "Sure", of: video => video.sure ?? -Infinity, hint: "The probability of the answer; where results have none 1 − unknown, or how far the first label is ahead of the second" },
  { key: "similarity", title: "Sim.", of: video => video.similarity ?? -Infinity, hint: "Similarity of the best label; compares videos of a run" },
  { key: "duration", title: "Length", of: video => video.duration ?? -Infinity },
];
const view = { list: [], text: "", label: "", state: "", run: "", pair: null, sort: null, down: false, chosen: null };
const FILTERS = ["text", "label", "state", "run"];
const living = new Map(); // place in the list: its row
const speed = { top: 0, rest: 0 }; // where the table was drawn last; a timer

function matches(video) {
  if (view.label !== "" && !labelsOf(video).includes(Number(view.label))) return false;
  if (view.run !== "" && video.run !== Number(view.run)) return false;
  if (view.pair && !(video.pair && video.pair.every(label => view.pair.includes(label)))) return false;
  if (view.text && !view.text.toLowerCase().split(/\s+/).every(word => video.words.includes(word))) return false;
  switch (view.state) {
    case "doubtful": return Boolean(video.doubtful);
    case "sure": return !video.doubtful && !video.error;
    case "failed": return Boolean(video.error);
    case "segments": return Boolean(video.segments?.length);
    case "corrected": return isCorrected(video);
    default: return true;
  }
}

/** Filter and sort anew; the chosen video stays chosen where it is still there, so that keys change nothing unseen. */
function refresh() {
  view.list = videos.filter(matches);
  const column = COLUMNS.find(one => one.key === view.sort);
  if (column) {
    const sign = view.down ? -1 : 1;
    view.list.sort((a, b) => {
      const one = column.of(a), other = column.of(b);
      return (one < other ? -sign : one > other ? sign : 0) || a.number - b.number;
    });
  }
  for (const row of living.values()) row.remove();
  living.clear();
  $("space").style.height = `${view.list.length * ROW}px`;
  const part = view.list.length < videos.length ? `${view.list.length.toLocaleString("en")} of ` : "";
  $("found").textContent = part + count(videos.length, "video");
  $("clear").hidden = !view.pair && FILTERS.every(name => view[name] === "");
  $("clear").textContent = view.pair ? shown(`${nameOf(view.pair[0])} | ${nameOf(view.pair[1])}  ✕`) : "Clear";
  $("table").setAttribute("aria-rowcount", view.list.length + 1);
  for (const head of $("head").children) {
    const sorted = head.dataset.key === view.sort;
    head.setAttribute("aria-sort", sorted ? view.down ? "descending" : "ascending" : "none");
  }
  draw();
  if (!view.list.includes(view.chosen)) choose(view.list[0] ?? null);
}

/** Rows for what is in view; the others go. Rows that fly past get their pictures when it comes to rest. */
function draw() {
  const rows = $("rows"), flies = Math.abs(rows.scrollTop - speed.top) > rows.clientHeight / 2;
  speed.top = rows.scrollTop;
  if (flies) {
    clearTimeout(speed.rest);
    speed.rest = setTimeout(land, 100);
  }
  const first = Math.max(0, Math.floor(rows.scrollTop / ROW) - SPARE);
  const last = Math.min(view.list.length, Math.ceil((rows.scrollTop + rows.clientHeight) / ROW) + SPARE);
  for (const [place, row] of living) {
    if (place >= first && place < last) continue;
    row.remove();
    living.delete(place);
  }
  for (let place = first; place < last; place++) {
    if (living.has(place)) continue;
    living.set(place, makeRow(view.list[place], place, flies));
    $("space").append(living.get(place));
  }
}

function land() {
  for (const [place, row] of living) if (row.classList.contains("flying")) redraw(view.list[place]);
}

function makeRow(video, place, flies = false) {
  const cells = [nameCell(video, flies), answerCell(video), topCell(video),
    span(video.error ? "" : fixed(video.sure), "number"),
    span(video.error ? "" : fixed(video.similarity), "number"),
    span(clock(video.duration, video.duration < 60), "number")];
  for (const cell of cells) cell.setAttribute("role", "gridcell");
  const chosen = video === view.chosen;
  return el("div", {
    class: `row${flies ? " flying" : ""}`, role: "row", id: `row-${video.number}`, "aria-rowindex": place + 2,
    "aria-selected": String(chosen), style: { top: `${place * ROW}px` }, onclick: () => choose(video),
  }, ...cells);
}

function nameCell(video, flies) {
  const run = data.runs.length > 1 ? el("small", { class: "tag", text: `run ${video.run + 1}` }) : null;
  return el("span", { class: "video", title: video.path }, flies ? el("span", { class: "picture" }) : picture(video),
    el("span", { class: "names" }, el("b", { text: video.name }), el("small", { text: video.folder }), run));
}

function answerCell(video) {
  if (video.error) return el("span", { class: "answer" }, el("b", { class: "bad", text: "failed" }), el("small", { text: video.error.stage }));
  const right = corrections.get(keyOf(video));
  return el("span", { class: "answer" },
    el("span", { class: right !== undefined && right !== nameOf(video.answer) ? "wrong" : "" }, swatch(video.answer), el("b", { text: nameOf(video.answer) })),
    right !== undefined ? span(`✓ ${right}`, "right") : null,
    right === undefined && video.doubtful ? el("span", { class: "doubt", text: "? doubtful", title: video.reasons.join("; ") }) : null);
}

function topCell(video) {
  if (video.error) return span(video.error.reason, "why");
  if (video.segments?.length) return el("span", { class: "strip" }, track(video, video.segments), el("small", { text: segmentsText(video) }));
  const cell = el("span", { class: "tops" });
  video.top.slice(0, 3).forEach(([label, score, similarity, probability]) => {
    const value = probability ?? score;
    cell.append(span(nameOf(label)), bar(value), span(fixed(value ?? similarity), "number"));
  });
  if (video.segments && !video.top.length) cell.append(el("small", { text: "nothing stands out at any time" }));
  return cell;
}

function segmentsText(video) {
  const labels = [...new Set(video.segments.map(one => one.label))], number = video.segments.length + (video.more_segments ?? 0);
  return `${count(number, "segment")} of ${count(labels.length, "label")}: ${labels.slice(0, 6).map(nameOf).join(", ")}${labels.length > 6 ? ", …" : ""}`;
}

/** Segments in one line, from left to right in time; where they overlap the best is in front. */
function track(video, segments) {
  return el("span", { class: "track", "aria-hidden": "true" }, ...segments
    .toSorted((a, b) => a.similarity - b.similarity).map(one => el("i", { style: spanOf(video, one) })));
}

/** Make a video the chosen one, and bring it into view; null is none. */
function choose(video) {
  const before = view.chosen && $(`row-${view.chosen.number}`);
  if (before) before.setAttribute("aria-selected", "false");
  view.chosen = video;
  $("table").setAttribute("aria-activedescendant", video ? `row-${video.number}` : "");
  if (!video) return $("detail").replaceChildren();
  const place = view.list.indexOf(video), rows = $("rows");
  if (place >= 0) {
    const top = place * ROW, spare = rows.clientHeight - ROW;
    if (rows.scrollTop > top) rows.scrollTop = top;
    if (rows.scrollTop < top - spare) rows.scrollTop = top - spare;
    draw();
  }
  $(`row-${video.number}`)?.setAttribute("aria-selected", "true");
  showDetail(video);
}

/** Choose another one, so many places on; of doubtful ones without a correction where that is asked for. */
function step(by, doubtful = false) {
  let place = view.list.indexOf(view.chosen);
  if (doubtful) do place += by; while (view.list[place] && (!view.list[place].doubtful || isCorrected(view.list[place])));
  else place = Math.max(0, Math.min(view.list.length - 1, place + by));
  if (view.list[place]) choose(view.list[place]);
}

function redraw(video) {
  const place = view.list.indexOf(video), row = living.get(place);
  if (!row) return;
  const made = makeRow(video, place);
  row.replaceWith(made);
  living.set(place, made);
}

function setUpTable() {
  for (const column of COLUMNS) {
    const cell = el("span", { role: "columnheader", "data-key": column.key, "aria-sort": "none", title: column.hint });
    cell.append(column.fixed ? span(column.title) : button(column.title, () => sortBy(column.key)));
    $("head").append(cell);
  }
  const answers = videos.some(video => video.answer === NONE) ? [NONE, ...ranks.keys()] : [...ranks.keys()];
  const names = answers.map(label => [nameOf(label), label]).sort((a, b) => a[0].localeCompare(b[0]));
  const option = (text, value) => el("option", { value: String(value), text });
  $("label").append(option("All labels", ""), ...names.map(one => option(...one)));
  $("run").append(option("All runs", ""), ...data.runs.map(run => option(`Run ${run.number + 1}: ${runTitle(run)}`, run.number)));
  $("run").hidden = data.runs.length < 2;
  for (const name of FILTERS) $(name).addEventListener("input", () => only({ ...view, [name]: $(name).value }));
  $("filters").addEventListener("submit", event => event.preventDefault());
  $("clear").addEventListener("click", () => only({}));
  let waiting = false;
  $("rows").addEventListener("scroll", () => {
    if (!waiting) requestAnimationFrame(() => { waiting = false; draw(); });
    waiting = true;
  }, { passive: true });
  new ResizeObserver(draw).observe($("rows"));
}

function sortBy(key) {
  const text = ["name", "answer"].includes(key);
  if (view.sort !== key) [view.sort, view.down] = [key, !text];
  else if (view.down === !text) view.down = text;
  else view.sort = null;
  refresh();
}

/** Show the table with these filters and no others. */
function only(filters) {
  for (const name of FILTERS) $(name).value = view[name] = filters[name] ?? "";
  view.pair = filters.pair ?? null;
  $("rows").scrollTop = 0;
  showTab("videos");
  refresh();
}
