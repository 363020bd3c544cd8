// Beginning, tabs, keys, light and dark.

const TABS = [["videos", "Videos"], ["labels", "Labels"], ["pairs", "Confused"], ["failures", "Failures"], ["settings", "Settings"]];
const KEYS = [
  ["↓ ↑ or j k", "next, previous video"], ["PgDn PgUp Home End", "further"], ["n", "next doubtful video"], ["Enter", "play"],
  ["1 … 5", "the label of that number is right"], ["c", "type another label"], ["x", "take the correction back"], ["s", "download corrections.csv"],
  ["/", "search"], ["Esc", "back to the table"], ["t", "light or dark"], ["?", "these keys"],
];
const pages = {}; // what fills a tab, when it is shown for the first time

function showTab(name) {
  for (const [one] of TABS) {
    $(one).hidden = one !== name;
    $(`tab-${one}`).setAttribute("aria-selected", String(one === name));
    $(`tab-${one}`).tabIndex = one === name ? 0 : -1;
  }
  pages[name]?.();
  delete pages[name];
  if (name === "videos") draw();
}

function setUpTabs() {
  const bar = document.querySelector("nav");
  bar.append(...TABS.map(([name, title]) => button(title, () => showTab(name), { role: "tab", id: `tab-${name}`, "aria-controls": name })));
  bar.addEventListener("keydown", event => {
    const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!by) return;
    const at = TABS.findIndex(([name]) => !$(name).hidden), next = TABS[(at + by + TABS.length) % TABS.length][0];
    showTab(next);
    $(`tab-${next}`).focus();
  });
}

function showCounts() {
  const doubtful = videos.filter(one => one.doubtful).length, failed = videos.filter(one => one.error).length;
  $("counts").textContent = joined([count(videos.length, "video"), some(doubtful, "doubtful"), some(failed, "failed")], " · ");
  $("save").hidden = !corrections.size;
  $("save").textContent = `Download ${count(corrections.size, "correction")}`;
}

const THEMES = { auto: "◐", dark: "●", light: "○" };

function setTheme(name) {
  document.documentElement.dataset.theme = name;
  $("theme").textContent = THEMES[name];
  $("theme").setAttribute("aria-label", `Theme: ${name}`);
  try { localStorage.setItem("zsar-report theme", name); } catch { /* asked again next time */ }
}

function nextTheme() {
  const names = Object.keys(THEMES);
  setTheme(names[(names.indexOf(document.documentElement.dataset.theme) + 1) % names.length]);
}

function kept() {
  try { return localStorage.getItem("zsar-report theme"); } catch { return null; }
}

function press(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || $("help").open) return;
  const target = event.target, typing = ["INPUT", "SELECT", "TEXTAREA"].includes(target.tagName);
  if (event.key === "Escape") { hideTip(); $("table").focus(); return; }
  if (typing || $("videos").hidden && !["?", "t", "s", "/"].includes(event.key)) return;
  const many = Math.max(1, Math.floor($("rows").clientHeight / ROW) - 1), video = view.chosen;
  const moves = { ArrowDown: 1, j: 1, ArrowUp: -1, k: -1, PageDown: many, PageUp: -many, Home: -Infinity, End: Infinity };
  const number = Number(event.key);
  if (event.key in moves && !(target.tagName === "VIDEO")) step(Math.max(-videos.length, Math.min(videos.length, moves[event.key])));
  else if (event.key === "n") step(1, true);
  else if (event.key === "/") { showTab("videos"); $("text").focus(); }
  else if (event.key === "t") nextTheme();
  else if (event.key === "?") $("help").showModal();
  else if (event.key === "s" && corrections.size) download();
  else if (event.key === "Enter" && video && target.tagName !== "BUTTON") play(video, detail.segment?.start ?? 0);
  else if (event.key === "c" && $("other")) $("other").focus();
  else if (event.key === "x" && video) correct(video, detail.segment, undefined);
  else if (number >= 1 && number <= 5 && video && !video.error) {
    const label = choicesOf(video, detail.segment)[number - 1];
    if (label === undefined) return;
    correct(video, detail.segment, nameOf(label));
  } else return;
  event.preventDefault();
}

function begin() {
  setTheme(kept() in THEMES ? kept() : "auto");
  prepare();
  const counts = rankLabels();
  recall();
  setUpTabs();
  setUpTable();
  const pairs = findPairs();
  Object.assign(pages, { labels: () => fillLabels(counts), pairs: () => fillPairs(pairs), failures: fillFailures, settings: fillSettings });
  document.body.append(el("datalist", { id: "names" }, ...data.labels.map(name => el("option", { value: name }))));
  $("help").querySelector("dl").append(...KEYS.flatMap(([keys, what]) => [el("dt", {}, el("kbd", { text: keys })), el("dd", { text: what })]));
  $("keys").addEventListener("click", () => $("help").showModal());
  $("theme").addEventListener("click", nextTheme);
  $("save").addEventListener("click", download);
  document.addEventListener("keydown", press);
  addEventListener("beforeunload", event => { if (corrections.size && !saved.safe) event.preventDefault(); });
  showTab("videos");
  showCounts();
  refresh();
  $("table").focus();
}

begin();
