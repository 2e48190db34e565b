// The page of `l2v serve`. Text from documents reaches the page only as text, never as markup.
"use strict";

const byId = (id) => document.getElementById(id);
const TOKEN = "l2v-token";

/** An element with attributes and children; strings become text. */
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** Send a request and return its JSON; an error carries the server's own words. */
async function ask(path, body) {
  const headers = { "Content-Type": "application/json" };
  const token = sessionStorage.getItem(TOKEN);
  if (token) headers.Authorization = `Bearer ${token}`;
  let answer;
  try {
    answer = await fetch(path, { method: "POST", headers, body: JSON.stringify(body) });
  } catch {
    throw new Error("The server does not answer. Is it still running?");
  }
  const content = await answer.json().catch(() => ({}));
  if (answer.status === 401) {
    byId("access").hidden = false;
    byId("token").focus();
  }
  if (!answer.ok) throw new Error(`${content.error ?? answer.statusText} ${content.hint ?? ""}`);
  return content;
}

function say(text, isError = false) {
  byId("message").textContent = text;
  byId("message").className = isError ? "error" : "soft";
}

const figure = (value, digits = 2) => (typeof value === "number" ? value.toFixed(digits) : "");

/** Reasons of a hit in one line: how it compares with random documents, and its place in both searches. */
function places(hit) {
  const parts = [];
  if (typeof hit.fit === "number") parts.push(`nearer than to ${figure(100 * hit.fit, 1)} % of random ones`);
  if (hit.dense_rank) parts.push(`meaning: place ${hit.dense_rank} (cosine ${figure(hit.dense_score)})`);
  if (hit.lexical_rank) parts.push(`words: place ${hit.lexical_rank} (BM25 ${figure(hit.lexical_score, 1)})`);
  return parts.join(" · ");
}

function chips(values, kind = "") {
  return values.length ? make("ul", { class: "chips" }, ...values.map((value) => make("li", kind ? { class: kind } : {}, String(value)))) : null;
}

const FIT = { strong: "strong fit", possible: "possible fit", none: "does not fit" };
const KIND_OF_OUTCOME = { pass: "good", unknown: "", fail: "bad" };
const SIGN_OF_OUTCOME = { pass: "✓", unknown: "?", fail: "✗" };

/** The class of a hit's fit as a badge. */
function fitBadge(hit) {
  return hit.fit_class ? make("span", { class: `badge ${hit.fit_class}` }, FIT[hit.fit_class] ?? hit.fit_class) : null;
}

/** Conditions of a hit, such as a licence: whether it meets them, and the words that say so. */
function conditionChips(hit) {
  const rows = (hit.conditions ?? []).map((each) => {
    const chip = make("li", { class: KIND_OF_OUTCOME[each.outcome] ?? "" }, `${SIGN_OF_OUTCOME[each.outcome] ?? ""} ${each.condition}: ${each.asked}`);
    if (each.found) chip.append(` (${each.found})`);
    return chip;
  });
  return rows.length ? make("ul", { class: "chips conditions", "aria-label": "Conditions" }, ...rows) : null;
}

/** How many older copies or versions a hit stands for. */
function similar(hit) {
  if (!hit.num_similar) return "";
  return `newest of ${hit.num_similar + 1} copies or versions`;
}

function card(hit, query, canExplain) {
  const title = hit.title || hit.source_id;
  const last = hit.valid_through ? `${hit.past ? "closed since" : "open until"} ${hit.valid_through}` : "";
  const item = make("li", {},
    make("div", { class: "head" }, make("span", { class: "rank" }, String(hit.rank)), make("strong", {}, title), fitBadge(hit)),
    make("p", { class: "soft" }, [`${hit.source} · ${hit.source_id}`, last, similar(hit)].filter(Boolean).join(" · ")),
    chips(hit.matched_terms),
    conditionChips(hit),
    make("p", { class: "soft" }, places(hit)));
  if (canExplain) {
    const button = make("button", { class: "plain", type: "button" }, "Why?");
    button.addEventListener("click", () => explain(item, button, hit, query));
    item.append(button);
  }
  return item;
}

async function explain(item, button, hit, query) {
  button.disabled = true;
  button.textContent = "Reading…";
  try {
    const found = await ask("explain", { query, resume: hit.doc_id });
    button.remove();
    item.append(...reasons(found));
  } catch (error) {
    button.disabled = false;
    button.textContent = "Why?";
    say(error.message, true);
  }
}

function reasons(found) {
  const skills = found.skills.map((each) => [each.skill, each.need, each.found, each.sentence, each.sentence ? each.section : "", figure(each.cosine)]);
  const asked = found.requirements;
  const title = !asked ? "No requirement was found: the text names no known skill." : asked.missing.length ? "Missing skills" : "No skill that the text asks for is missing.";
  return [
    ...part(title, chips(asked ? asked.missing : [], "bad")),
    ...(asked && asked.partly_met.length ? part("Partly met", chips(asked.partly_met)) : []),
    ...part("Skills that the text names", table(["skill", "the text says", "found", "in the resume", "section", "cosine"], skills)),
    ...part("Nearest sentences", table(["text", "resume", "cosine"], found.sentences.map((pair) => [pair.job, pair.resume, figure(pair.cosine)]))),
    ...part("Shared words, the weightiest first", chips(found.terms.slice(0, 20).map((each) => `${each.term} ${figure(each.bm25, 1)}`))),
  ];
}

const part = (title, content) => (content || title.endsWith(".") ? [make("h3", {}, title), ...(content ? [content] : [])] : []);

function table(columns, rows) {
  if (!rows.length) return null;
  const kind = (at) => (columns[at] === "cosine" ? { class: "number" } : {});
  return make("table", {},
    make("thead", {}, make("tr", {}, ...columns.map((name, at) => make("th", { scope: "col", ...kind(at) }, name)))),
    make("tbody", {}, ...rows.map((row) => make("tr", {}, ...row.map((value, at) => make("td", kind(at), String(value ?? "")))))));
}

let newest = 0;

async function search() {
  const asked = (newest += 1);
  const query = byId("query").value.trim();
  if (!query) return;
  const kind = byId("table").value;
  const body = { query, table: kind, mode: byId("mode").value, limit: Number(byId("limit").value) };
  if (kind === "jobs" && byId("past").checked) body.past = true;
  say("Searching…");
  try {
    const { hits, nobody_fits } = await ask("search", body);
    if (asked !== newest) return; // a later search was faster
    byId("access").hidden = true;
    byId("hits").replaceChildren(...hits.map((hit) => card(hit, query, kind === "resumes")));
    const found = kind === "jobs" ? "jobs" : "people";
    const best = nobody_fits ? `None of them fits. The nearest ${hits.length} ${found}` : `The best ${hits.length} ${found}`;
    say(hits.length ? best : `No ${found} were found.`);
  } catch (error) {
    if (asked !== newest) return;
    byId("hits").replaceChildren();
    say(error.message, true);
  }
}

byId("search").addEventListener("submit", (event) => {
  event.preventDefault();
  search();
});
byId("query").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) search();
});
byId("table").addEventListener("change", () => {
  byId("past-label").hidden = byId("table").value !== "jobs";
});
byId("access").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem(TOKEN, byId("token").value.trim());
  byId("token").value = "";
  if (byId("judging").hidden) search();
  else nextPair(null);
});

const served = fetch("health").then((answer) => answer.json()).catch(() => ({}));

/** Call a function with the state of the server, once it is known. */
function onState(act) {
  served.then(act);
}

onState((state) => {
  if (state.status === "ok") byId("state").textContent = `State of ${new Date(state.promoted_at).toLocaleString()}`;
  else if (state.error) byId("state").textContent = `${state.error} ${state.hint}`;
});
