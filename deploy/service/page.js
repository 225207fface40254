"use strict";
const TEXTS = {
  zh: { title: "常见问题", question: "问题", method: "检索方式", calibrated: "按校准", dense: "向量", keyword: "关键字", hybrid: "两者结合",
    search: "搜索", threshold: "试一个向量相似度阈值", entries: "条目", filter: "查找", show: "显示", add: "新增", edit: "条目", answer: "答案",
    category: "类别", similar: "相似问题，每行一个", save: "保存", cancel: "取消", change: "修改", remove: "删除", sure: "确定删除？",
    yes: "有帮助", no: "没帮助", thanks: "已记录", curl: "复制为 curl", copied: "已复制", matched: "匹配的问题", ms: "毫秒",
    encode: "编码", find: "检索", reply: "组织答案", rank: "第 {0} 名，{1}", searchable: "{0} 毫秒后可搜到", removed: "已删除，{0} 毫秒后搜不到",
    "state-answer": "答案", "state-suggest": "您是不是想问", "state-none": "没有答案", cut: "低于 {0} 的 {1} 条会被去掉，留下 {2} 条", gone: "会被去掉", kept: "已保存，稍后生效", more: "更多",
    closest: "最接近的问题", shown: "共 {1} 条，显示 {0} 条",
    info: "模型 {6}（{0}…）· {1} 维 · {2} 条 · {3} 个问题 · 版本 {4} · {5}", key: "访问密钥", failed: "出错：{0}", other: "English" },
  en: { title: "FAQ", question: "Question", method: "Method", calibrated: "as calibrated", dense: "vectors", keyword: "keywords",
    hybrid: "both", search: "Search", threshold: "Try a threshold on the cosine", entries: "Entries", filter: "Find", show: "Show", add: "Add",
    edit: "Entry", answer: "Answer", category: "Category", similar: "Similar questions, one a line", save: "Save", cancel: "Cancel",
    change: "Edit", remove: "Delete", sure: "Delete this entry?", yes: "Helpful", no: "Not helpful", thanks: "Noted",
    curl: "Copy as curl", copied: "Copied", matched: "Matched question", ms: "ms", encode: "encode", find: "search", reply: "answer",
    rank: "rank {0}, {1}", searchable: "searchable after {0} ms", removed: "gone after {0} ms", "state-answer": "Answer",
    "state-suggest": "Did you mean", "state-none": "No answer", cut: "below {0}: {1} would go, {2} stay", gone: "would go", kept: "saved, it will take effect soon",
    more: "More", closest: "The closest questions", shown: "{0} of {1} entries",
    info: "model {6} ({0}…) · {1} wide · {2} entries · {3} questions · version {4} · {5}", key: "Key", failed: "Failed: {0}", other: "中文" } };
const at = id => document.getElementById(id);
let language = (localStorage.getItem("language") || navigator.language).startsWith("zh") ? "zh" : "en";
let last = null, asked = null;  // a reply and its request
const PAGE = 50;
const say = (name, ...values) => values.reduce((text, value, place) => text.replace(`{${place}}`, () => value), TEXTS[language][name]);

const guarded = work => async event => {  // what fails is said
  event?.preventDefault();
  at("problem").textContent = "";
  try { await work(event); } catch (error) { at("problem").textContent = say("failed", error.message); }
};

function make(name, content, attributes = {}, ...children) {
  const found = document.createElement(name);
  if (content) found.textContent = content;
  for (const [key, value] of Object.entries(attributes)) key === "onclick" ? found.addEventListener("click", value) : found.setAttribute(key, value);
  found.append(...children);
  return found;
}

async function call(method, path, body) {
  const headers = { "Content-Type": "application/json" };
  const key = sessionStorage.getItem("key");
  if (key) headers["X-API-Key"] = key;
  const answer = await fetch(path, { method, headers, body: body && JSON.stringify(body) });
  if (answer.status === 401) {
    if (sessionStorage.getItem("key") !== key) return call(method, path, body);  // another call has asked meanwhile
    const given = (prompt(say("key")) || "").trim();
    if (given) {
      if (/^[!-~]+$/.test(given)) sessionStorage.setItem("key", given);  // a header holds no other signs
      return call(method, path, body);
    }
  }
  const content = await answer.json().catch(() => ({ error: `${answer.status} ${answer.statusText}` }));
  if (!answer.ok) throw new Error(content.error);
  return content;
}

function marked(text, query) {  // characters that both have
  const found = make("span"), known = new Set([...query.toLowerCase()].filter(c => /[\p{L}\p{N}]/u.test(c)));
  for (const part of text.match(/./gsu) || []) found.append(known.has(part.toLowerCase()) ? make("mark", part) : part);
  return found;
}

function showHit(reply, hit, first) {
  const sources = Object.entries(hit.sources).map(([name, about]) => `${say(name)}: ${say("rank", about.rank, about.score.toFixed(4))}`).join(" · ");
  const noted = make("span", "", { class: "soft", role: "status" });
  const thumb = label => guarded(async () => {
    await call("POST", "/feedback", { query: reply.query, question: hit.matched, label });
    noted.textContent = say("thanks");
  });
  const box = make("article", "", { class: "hit", ...(hit.sources.dense && { "data-cosine": hit.sources.dense.score }) });
  if (!first) box.append(make("div", hit.answer, { style: "white-space:pre-wrap" }));
  box.append(make("div", "", { class: "soft" }, `${say("matched")}: `, marked(hit.matched, reply.query)),
    make("div", sources, { class: "soft" }), make("div", say("gone"), { class: "gone" }),
    make("div", "", { class: "row" }, make("button", "👍 " + say("yes"), { type: "button", onclick: thumb(1) }),
      make("button", "👎 " + say("no"), { type: "button", onclick: thumb(0) }),
      make("button", say("change"), { type: "button", onclick: guarded(() => edit(hit.id)) }), noted));
  return box;
}

function show() {
  const result = at("result");
  result.replaceChildren();
  at("cutting").hidden = !last;
  if (!last) return;
  const reply = last.replies[0], times = last.milliseconds;
  const sure = reply.confidence === null ? "" : ` ${(100 * reply.confidence).toFixed(0)} %`;
  result.append(make("h2", say(`state-${reply.state}`) + sure, { class: `state-${reply.state}`, id: "state" }));
  if (reply.state === "answer") result.append(make("div", reply.hits[0].answer, { class: "answer", id: "answer" }));
  const shown = reply.hits.map((hit, place) => showHit(reply, hit, reply.state === "answer" && !place));
  // where there is no answer, what came closest is for who keeps the FAQ
  result.append(...(reply.state === "none" && shown.length ? [make("details", "", { id: "closest" }, make("summary", say("closest")), ...shown)] : shown));
  const copied = make("span", "", { role: "status" });
  const copy = guarded(async () => {
    const text = `curl -s ${location.origin}/search -H 'Content-Type: application/json'${sessionStorage.getItem("key") ? ' -H "X-API-Key: $KEY"' : ""} -d '${JSON.stringify(asked).replaceAll("'", "'\\''")}'`;
    if (!navigator.clipboard) return prompt(say("curl"), text);  // which browsers give to https and this machine alone
    await navigator.clipboard.writeText(text);
    copied.textContent = say("copied");
  });
  result.append(make("p", "", { class: "soft row" }, `${say("encode")} ${times.encode.toFixed(1)} · ${say("find")} ${times.search.toFixed(1)} · ${say("reply")} ${times.answer.toFixed(1)} ${say("ms")}`,
    make("button", say("curl"), { type: "button", onclick: copy }), copied));
  cut();
}

function cut() {
  const limit = Number(at("slider").value), hits = [...document.querySelectorAll("#result .hit")];
  at("slider-value").textContent = limit.toFixed(2);
  const gone = hits.filter(hit => "cosine" in hit.dataset && Number(hit.dataset.cosine) < limit);
  hits.forEach(hit => hit.classList.toggle("cut", gone.includes(hit)));
  at("cut").textContent = say("cut", limit.toFixed(2), gone.length, hits.length - gone.length);
}

async function list(after = 0) {
  const found = await call("GET", `/entries?limit=${PAGE}&after=${after}&like=${encodeURIComponent(at("like").value)}`);
  if (!after) at("list").replaceChildren();
  at("list").append(...found.entries.map(entry => make("div", "", { class: "hit row", "data-id": entry.id },
    make("span", entry.question, { class: "grow" }),
    make("button", say("change"), { type: "button", "aria-label": `${say("change")}: ${entry.question}`, onclick: guarded(() => edit(entry.id)) }),
    make("button", say("remove"), { type: "button", "aria-label": `${say("remove")}: ${entry.question}`, onclick: guarded(() => remove(entry.id)) }))));
  at("more").hidden = found.entries.length < PAGE;
  at("shown").textContent = say("shown", at("list").children.length, found.count);
}

async function info() {
  const about = await call("GET", "/info");
  at("info").textContent = say("info", about.encoder.slice(0, 8), about.dimension, about.entries, about.questions, about.change, about.index, about.model);
}

let editing = null;
async function edit(id) {
  const entry = id ? await call("GET", `/entries/${id}`) : { question: "", answer: "", category: "", similar: [] };
  editing = id;
  for (const name of ["question", "answer", "category"]) at(`e-${name}`).value = entry[name];
  at("e-similar").value = entry.similar.join("\n");
  at("e-problem").textContent = "";
  at("editor").showModal();
}

async function remove(id) {
  if (!confirm(say("sure"))) return;
  const done = await call("DELETE", `/entries/${id}`);
  await written("removed", done);
}

async function written(name, done) {
  const after = done.searchable_after_ms;  // null: it is kept, and the index has yet to take it in
  at("written").textContent = after === null ? say("kept") : say(name, after.toFixed(0));
  await Promise.all([list(), info()]);
  at("add").focus();  // the button that opened the editor is gone from the list
}

function words() {
  document.documentElement.lang = language === "zh" ? "zh-CN" : "en";
  document.title = say("title");
  document.querySelectorAll("[data-text]").forEach(one => { one.textContent = say(one.dataset.text); });
  at("language").textContent = say("other");
  at("language").lang = language === "zh" ? "en" : "zh-CN";
  show();
}

at("ask").addEventListener("submit", guarded(async () => {
  const body = { query: at("query").value, top: 5, ...(at("method").value && { method: at("method").value }) };
  last = await call("POST", "/search", body);
  asked = body;
  show();
}));
at("more").addEventListener("click", guarded(() => list(at("list").lastElementChild?.dataset.id || 0)));
at("slider").addEventListener("input", cut);
at("filter").addEventListener("submit", guarded(() => list()));
at("add").addEventListener("click", guarded(() => edit(null)));
at("e-cancel").addEventListener("click", () => at("editor").close());
at("language").addEventListener("click", guarded(async () => {
  language = language === "zh" ? "en" : "zh";
  localStorage.setItem("language", language);
  words();
  await Promise.all([list(), info()]);
}));
at("edit").addEventListener("submit", async event => {
  event.preventDefault();
  const body = { question: at("e-question").value, answer: at("e-answer").value, category: at("e-category").value,
    similar: at("e-similar").value.split("\n").map(text => text.trim()).filter(Boolean) };
  try {
    const done = await call(editing ? "PUT" : "POST", editing ? `/entries/${editing}` : "/entries", body);
    at("editor").close();
    await written("searchable", done);
  } catch (error) { at("e-problem").textContent = error.message; }
});
words();
guarded(() => Promise.all([list(), info()]))();
