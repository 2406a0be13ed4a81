"use strict";

// Tables that sort, commands that fold, and a reader of answers.
// Texts come from models and from strangers: they become text nodes, and are never read as HTML.

document.documentElement.classList.add("js");

function el(name, attributes = {}, ...content) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...content);
  return node;
}

function drawn(name, attributes, ...content) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...content);
  return node;
}

/* Tables */

function sortBy(table, column, head) {
  const text = head.classList.contains("text");
  const first = text || column === 0 ? "ascending" : "descending"; // ranks and names begin at the top
  const other = first === "ascending" ? "descending" : "ascending";
  const order = head.getAttribute("aria-sort") === first ? other : first;
  const sign = order === "ascending" ? 1 : -1;
  const keyed = [...table.tBodies].map((body) => [body.rows[0].cells[column].dataset.sort, body]);
  keyed.sort(([a], [b]) => {
    if (a === undefined || b === undefined) return (a === undefined) - (b === undefined); // unknown: last
    return sign * (text ? a.localeCompare(b) : a - b);
  });
  table.append(...keyed.map(([, body]) => body));
  for (const th of table.tHead.rows[0].cells) {
    if (th.hasAttribute("aria-sort")) th.setAttribute("aria-sort", th === head ? order : "none");
  }
}

function makeSortable(table) {
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    head.querySelector("button")?.addEventListener("click", () => sortBy(table, column, head));
  });
}

function fold(button) {
  const row = document.getElementById(button.getAttribute("aria-controls"));
  const open = row.classList.toggle("open");
  button.setAttribute("aria-expanded", open);
  button.textContent = open ? "Hide" : "Show";
}

async function copy(button) {
  const code = button.closest("div").querySelector("code");
  try {
    await navigator.clipboard.writeText(code.textContent);
    button.textContent = "Copied";
  } catch {
    getSelection().selectAllChildren(code); // no clipboard here: selected, for the keyboard to copy
    button.textContent = "Selected";
  }
}

/* Answers: a page opened from a disk may not fetch, so data come as scripts that call `fspoBench` */

const given = new Map();
const asked = new Map();

window.fspoBench = (name, data) => given.set(name, data);

function load(name) {
  if (!asked.has(name)) {
    asked.set(name, new Promise((resolve, reject) => {
      const script = el("script", { src: `data/${name.split("/").map(encodeURIComponent).join("/")}.js` });
      script.addEventListener("load", () => resolve(given.get(name)));
      script.addEventListener("error", () => reject(new Error(`data/${name}.js is missing`)));
      document.head.append(script);
    }));
  }
  return asked.get(name);
}

function chooser(id, label, options, chosen, change) {
  const select = el("select", { id }, ...options.map(([value, text]) => {
    const option = el("option", { value }, text);
    option.selected = value === chosen;
    return option;
  }));
  select.addEventListener("change", () => change(select.value));
  return el("div", {}, el("label", { for: id }, label), select);
}

const short = (text) => (text.length > 90 ? `${text.slice(0, 89)}…` : text);
const titled = (user) => (user.round ? `${user.name}, with other shots (${user.round + 1})` : user.name);

function userOf(user) {
  return el("div", {},
    el("h4", {}, `User ${titled(user)}`),
    el("p", { class: "small" }, "What the judge reads:"),
    el("blockquote", {}, user.description || "(no description)"));
}

function shotsOf(user, runs) {
  const fewer = runs.filter((run) => run.shots < user.shots.length);
  const read = fewer.map((run) => ` ${run.label} ran with the first ${run.shots}.`);
  const item = (shot) => el("li", {},
    el("p", { class: "asked" }, shot.prompt),
    el("p", { class: "chosen" }, el("span", { class: "kind" }, "Chosen"), shot.chosen),
    el("p", { class: "rejected" }, el("span", { class: "kind" }, "Rejected"), shot.rejected));
  return el("div", { class: "seen" },
    el("h4", {}, `Shots: ${user.shots.length} preferences of this user`),
    el("p", { class: "small" }, "The most that a method may read; controls read others, or spoilt ones.",
      ...new Set(read)),
    el("ol", { class: "shots" }, ...user.shots.map(item)));
}

function verdictOf(verdict, won, lost) {
  if (verdict.p === null) return el("p", { class: "verdict" }, `No verdict: ${verdict.reason}.`);
  const half = verdict.consistent === false || verdict.p === 0.5;
  const says = half ? "Undecided" : verdict.p > 0.5 ? won : lost;
  const orders = verdict.orders.length > 1 ? `, by order ${verdict.orders.join(" and ")}` : "";
  const kind = half ? "verdict" : verdict.p > 0.5 ? "verdict wins" : "verdict loses";
  return el("p", { class: kind },
    el("b", {}, says), ` (p ${verdict.p.toFixed(2)}${orders})`,
    drawn("svg", { class: "odds", viewBox: "0 0 100 4", preserveAspectRatio: "none", "aria-hidden": "true" },
      drawn("rect", { class: "all", width: 100, height: 4 }),
      drawn("rect", { class: "for", width: 100 * verdict.p, height: 4 }),
      drawn("line", { class: "half", x1: 50, x2: 50, y1: 0, y2: 4 })));
}

function behind(summary, ...content) {
  return el("details", {}, el("summary", {}, summary), ...content);
}

function replyOf(run, row) {
  const said = row.verdicts;
  const parts = [el("h5", {}, run.label), el("p", { class: "said" }, row.output || "(nothing)")];
  if (said.reference) parts.push(verdictOf(said.reference, "Preferred to base's", "Base's is preferred"));
  if (row.note) parts.push(behind("Written on the way", el("p", { class: "said" }, row.note)));
  if (row.wrong_user_output !== null) {
    const other = [el("p", { class: "said" }, row.wrong_user_output || "(nothing)")];
    if (said.own) other.push(verdictOf(said.own, "The one above is preferred", "This one is preferred"));
    if (said.wrong_user) other.push(verdictOf(said.wrong_user, "Preferred to base's", "Base's is preferred"));
    parts.push(behind("Behind another user's shots", ...other));
  }
  return el("article", { class: "reply" }, ...parts);
}

function told(box, error) {
  box.replaceChildren(el("p", { class: "warning" }, error.message));
}

class Reader {
  constructor(box, name, shared) {
    Object.assign(this, { box, name, shared, place: "0" });
    const [first] = shared.runs;
    const other = shared.runs.find((run) => run.line !== first.line) ?? first;
    this.runs = [first.id, other.id];
    this.question = this.user.asked[0];
  }

  get user() {
    return this.shared.users[this.place];
  }

  change(changes) {
    Object.assign(this, changes);
    if (!this.user.asked.includes(this.question)) this.question = this.user.asked[0];
    this.show();
  }

  controls() {
    const { runs, users, questions } = this.shared;
    const methods = runs.map((run) => [run.id, run.label]);
    const [a, b] = this.runs;
    const id = (part) => `${this.name}-${part}`;
    return el("div", { class: "controls" },
      chooser(id("method"), "Method", methods, a,
        (run) => this.change({ runs: [run, b], focus: 0 })),
      chooser(id("beside"), "Beside it", methods, b,
        (run) => this.change({ runs: [a, run], focus: 1 })),
      chooser(id("user"), "User", users.map((user, n) => [String(n), titled(user)]), this.place,
        (place) => this.change({ place, focus: 2 })),
      chooser(id("question"), "Question", this.user.asked.map((q) => [q, short(questions[q].prompt)]),
        this.question, (question) => this.change({ question, focus: 3 })));
  }

  async show() {
    const wanted = [...this.runs];
    try {
      const answers = await Promise.all(wanted.map((id) => load(`${this.name}/${id}`)));
      if (wanted.join() === this.runs.join()) this.draw(wanted, answers); // else chosen anew meanwhile
    } catch (error) {
      told(this.box, error);
    }
  }

  draw(wanted, answers) {
    const { prompt, reference } = this.shared.questions[this.question];
    const runs = wanted.map((id) => this.shared.runs.find((run) => run.id === id));
    const replies = runs.map((run, n) =>
      replyOf(run, answers[n][`${this.user.name}/${this.user.round}`][this.question]));
    this.box.replaceChildren(this.controls(), el("div", { class: "reading" },
      userOf(this.user),
      el("div", { class: "read" },
        el("h4", { class: "question" }, prompt),
        el("p", { class: "small" }, "p: how likely the judge holds it that this user prefers the answer."),
        el("div", { class: "replies" }, ...replies,
          el("article", { class: "reply base" },
            el("h5", {}, "base, which every win rate is against"),
            el("p", { class: "said" }, reference || "(nothing)")))),
      shotsOf(this.user, runs)));
    if (this.focus !== undefined) this.box.querySelectorAll("select")[this.focus].focus();
  }
}

async function read(details) {
  const box = details.querySelector(".browser");
  try {
    const name = details.dataset.board;
    new Reader(box, name, await load(`${name}/users`)).show();
  } catch (error) {
    told(box, error);
  }
}

document.addEventListener("DOMContentLoaded", () => {
  document.querySelectorAll("table.sorts").forEach(makeSortable);
  document.querySelectorAll(".more").forEach((b) => b.addEventListener("click", () => fold(b)));
  document.querySelectorAll(".copy").forEach((b) => b.addEventListener("click", () => copy(b)));
  document.querySelectorAll(".answers").forEach((details) => {
    details.addEventListener("toggle", () => details.open && read(details), { once: true });
  });
});
