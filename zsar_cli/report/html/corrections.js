// Right answers that were set here, and the table that other commands of zsar read.

const corrections = new Map(); // key of a video, or of a part of it: its label
const FORMULA = /^[=+\-@\uff1d\uff0b\uff0d\uff20]/; // what spreadsheets would run; read back without the quote
const saved = { key: "", safe: true }; // where the browser keeps them, and whether the newest outlast the page

const keyOf = (video, segment = null) => JSON.stringify([video.path, ...(segment ? [segment.start, segment.end] : [])]);
const isCorrected = video => corrections.has(keyOf(video)) || Boolean(video.segments?.some(one => corrections.has(keyOf(video, one))));

/** Set or, with undefined, take back the right answer of a video or of a segment. */
function correct(video, segment, label) {
  if (label === undefined) corrections.delete(keyOf(video, segment));
  else corrections.set(keyOf(video, segment), label);
  keep();
  videos.filter(one => one.path === video.path).forEach(redraw);
  showCounts();
  const inside = $("detail").contains(document.activeElement) && document.activeElement.tagName !== "INPUT";
  const player = document.querySelector("#detail video");
  showDetail(video, segment);
  if (player) document.querySelector("#detail .stage").replaceChildren(player); // goes on playing
  if (inside) $("table").focus();
}

/** In the browser, so that closing the page loses nothing; not every browser does that for files. */
function keep() {
  try {
    localStorage.setItem(saved.key, JSON.stringify([...corrections]));
    saved.safe = true;
  } catch { saved.safe = false; }
}

function recall() {
  saved.key = `zsar-report ${JSON.stringify([data.base, data.runs.map(run => [run.run, run.search]), videos.length, videos[0]?.path])}`;
  try {
    for (const [key, label] of JSON.parse(localStorage.getItem(saved.key) ?? "[]")) corrections.set(key, label);
  } catch { /* nothing that could be read was kept */ }
}

const isWhole = path => data.windows ? /^([a-z]:)?[\\/]/i.test(path) : path.startsWith("/");
const wholePath = path => isWhole(path) ? path : `${data.base}${data.windows ? "\\" : "/"}${path}`;

function cell(text) {
  const safe = FORMULA.test(text) ? `'${text}` : text;
  return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

/** The table as text, and how many rows it cannot hold: names of files that are no text. */
function correctionsTable() {
  const all = [...corrections].map(([key, label]) => [...JSON.parse(key), label]);
  const rows = all.filter(row => wholePath(row[0]).isWellFormed() && row.at(-1).isWellFormed());
  const timed = rows.some(row => row.length > 2);
  const lines = rows.map(row => {
    const [path, label, times] = [wholePath(row[0]), row.at(-1), row.length > 2 ? row.slice(1, 3) : ["", ""]];
    return [cell(path), cell(label), ...(timed ? times : [])].join(",");
  });
  return { text: [`path,label${timed ? ",start,end" : ""}`, ...lines, ""].join("\n"), left: all.length - rows.length };
}

function download() {
  const { text, left } = correctionsTable();
  const link = el("a", { download: "corrections.csv", href: URL.createObjectURL(new Blob([text], { type: "text/csv" })) });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  saved.safe = true;
  if (left) alert(`${count(left, "correction")} left out: a name that is not UTF-8 cannot stand in a table`);
}
