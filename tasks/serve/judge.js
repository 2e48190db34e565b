// Judging pairs on the page of `l2v serve --judge`. Uses the functions of page.js.
"use strict";

let shown = null;

const SAYS = [["yes", "Yes, it fits"], ["no", "No"], ["unsure", "Unsure"]];

/** One document of a pair, as it is stored. */
function documentPart(kind, document) {
  return make("article", {}, make("h3", {}, `${kind}: ${document.title || document.doc_id}`), make("p", { class: "text" }, document.text));
}

function pairCard(pair) {
  const why = make("details", {}, make("summary", {}, "Evidence"), ...reasons(pair.explanation));
  return [
    documentPart("Job", pair.job),
    documentPart("Resume", pair.resume),
    make("p", { class: "soft" }, pair.fit),
    make("p", { class: "soft" }, pair.requirements),
    conditionChips(pair.explanation),
    why,
  ].filter(Boolean);
}

function allowAnswers(isAllowed) {
  for (const button of byId("answers").querySelectorAll("button")) button.disabled = !isAllowed;
}

/** Show the next pair, behind one that was skipped. */
async function nextPair(after) {
  allowAnswers(false);
  say("Reading the next pair…");
  try {
    const { by, pair } = await ask("judge/next", { after });
    byId("access").hidden = true;
    shown = pair;
    byId("pair").replaceChildren(...(pair ? pairCard(pair) : []));
    byId("answers").hidden = !pair;
    byId("judge").textContent = `Answers are kept under the name ${by}.`;
    say(pair ? "Does the resume fit the job?" : "No pair of the latest matches is left to judge.");
    allowAnswers(true);
  } catch (error) {
    allowAnswers(Boolean(shown));
    say(error.message, true);
  }
}

const named = (pair) => ({ job: pair.job.doc_id, resume: pair.resume.doc_id });

async function answer(value) {
  allowAnswers(false);
  try {
    await ask("judge", { ...named(shown), answer: value });
  } catch (error) {
    allowAnswers(true);
    say(error.message, true);
    return;
  }
  await nextPair(null);
}

/** Show the part of the page for judging instead of the search, or the reverse. */
function showJudging(isShown) {
  byId("judging").hidden = !isShown;
  byId("search").hidden = isShown;
  byId("hits").replaceChildren();
  byId("to-judging").textContent = isShown ? "Back to the search" : "Judge pairs";
  say("");
  if (isShown) nextPair(null);
}

for (const [value, label] of SAYS) {
  const button = make("button", { type: "button", class: "plain" }, label);
  button.addEventListener("click", () => answer(value));
  byId("answers").append(button);
}
const skip = make("button", { type: "button", class: "plain" }, "Skip");
skip.addEventListener("click", () => nextPair(named(shown)));
byId("answers").append(skip);
byId("to-judging").addEventListener("click", () => showJudging(byId("judging").hidden));
onState((state) => {
  byId("to-judging").hidden = !state.judging;
});
