// Asks the server as any client does, folds the events of the threads it streams, and draws them.
// What a model wrote is hostile: it enters the page as text alone.
"use strict";

const MAIN = "0";
const ENDS = JSON.parse(document.body.dataset.ends);
const SIGNS = JSON.parse(document.body.dataset.signs);
const FRAME_MS = 100;
const AXIS_PX = 90; // from one number of the axis to the next, at least
const BARS = { queue: 4, prefill: 12, start: 12, decode: 12, waiting: 2 };
const at = (id) => document.getElementById(id);

// ---- the fold: the same as of apr.threads.lanes and apr.threads.marks

class Thread {
  constructor(event) {
    Object.assign(this, {
      id: event.thread, parent: event.parent, depth: event.depth, prompt: event.prompt ?? event.text, text: event.text,
      opened: event.time, closed: null, spans: [], spawns: [], joins: [], rounds: [], tokens: 0,
      calling: event.time, first: null, streams: false, reason: null, result: null, detail: null,
    });
  }

  get waiting() {
    return this.reason === null && this.spawns.length > this.joins.length;
  }

  apply(event) {
    const time = event.time;
    switch (event.event) {
      case "tokens_sampled":
        this.text += event.text;
        this.tokens += event.token_ids.length;
        if (this.first === null) this.first = time;
        else this.streams ||= time > this.first;
        break;
      case "tokens_forced":
        // Characters are counted as Python counts them.
        this.text = Array.from(this.text).slice(0, event.kept_text).join("") + event.text;
        this.calling = time;
        break;
      case "call_finished":
        this.end(time, event.timing);
        break;
      case "thread_spawned":
        this.spawns.push(time);
        this.rounds.push({ children: event.children, outcomes: null });
        break;
      case "thread_joined":
        this.spans.push([this.spawns.at(-1), time, "waiting"]);
        this.joins.push(time);
        this.rounds.at(-1).outcomes = event.outcomes;
        break;
      case "thread_closed":
        this.spans = this.until(time);
        Object.assign(this, { calling: null, closed: time, reason: event.reason, result: event.result, detail: event.detail });
        break;
    }
  }

  end(time, timing) {
    const begin = this.calling ?? time;
    if (timing.length === 3) {
      const queued = Math.min(time, begin + Math.max(0, timing[0]));
      const filled = Math.min(time, queued + Math.max(0, timing[1]));
      this.spans.push([begin, queued, "queue"], [queued, filled, "prefill"], [filled, time, "decode"]);
    } else {
      this.spans.push(...untold(begin, this.streams ? this.first : begin, time));
    }
    Object.assign(this, { calling: null, first: null, streams: false });
  }

  // All spans, those under way up to now.
  until(now) {
    if (this.calling !== null) return [...this.spans, ...untold(this.calling, this.first ?? now, now)];
    return this.waiting ? [...this.spans, [this.spawns.at(-1), now, "waiting"]] : this.spans;
  }
}

const untold = (begin, first, end) => [[begin, first, "start"], [first, end, "decode"]];

class Rollout {
  constructor() {
    Object.assign(this, { threads: new Map(), seconds: 0, finished: null });
  }

  apply(event) {
    this.seconds = event.time;
    if (event.event === "thread_opened") this.threads.set(event.thread, new Thread(event));
    else if (event.event === "rollout_finished") this.finished = event;
    else this.threads.get(event.thread)?.apply(event);
  }

  // All threads, each before its children, those in spawn order.
  ordered() {
    const found = [], left = [MAIN];
    while (left.length) {
      const thread = this.threads.get(left.pop());
      if (thread === undefined) continue;
      found.push(thread);
      left.push(...thread.rounds.flatMap((round) => round.children).reverse());
    }
    return found;
  }

  // The longest chain of dependent threads: of each join the child that was waited for longest.
  chain() {
    const path = this.threads.has(MAIN) ? [MAIN] : [];
    for (const id of path) {
      const thread = this.threads.get(id);
      for (const { children, outcomes } of thread.rounds) {
        if (outcomes === null && thread.reason === null) continue;
        const ended = children.map((child, index) => [this.threads.get(child), outcomes?.[index]])
          .filter(([child, outcome]) => outcome !== "cancelled" && child !== undefined && child.closed !== null)
          .map(([child]) => child);
        if (ended.length) path.push(ended.reduce((last, child) => (child.closed > last.closed ? child : last)).id);
      }
    }
    return new Set(path);
  }

  mark(thread) {
    if (thread.reason === null) return thread.waiting ? "waiting" : "running";
    if (thread.result !== null) {
      // Nobody here can judge a child's claim; the main thread's is the answer, which the server judges.
      if (thread.parent !== null || this.finished === null || this.finished.correct === null) return "claimed";
      return this.finished.correct ? "found" : "wrong";
    }
    return { no_answer: "nothing", cancelled: "cancelled", engine_error: "failed" }[thread.reason] ?? "stopped";
  }
}

// ---- the picture

// Text with a sign for each character that would not be seen, or would reorder others.
const clean = (text) => text.replace(/[^\P{C}\n\t]|[\p{Zl}\p{Zp}]/gu, "·");
const lastLine = (text) => clean(text.trimEnd().split("\n").at(-1) ?? "").trim();
const nameOf = (thread) => (thread.id === MAIN ? "main" : thread.id);

function element(name, attributes, ...children) {
  const made = name.startsWith("svg:") ? document.createElementNS("http://www.w3.org/2000/svg", name.slice(4)) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

const percent = (share) => `${(100 * Math.min(1, Math.max(0, share))).toFixed(3)}%`;

function bar(thread, length, now, chain) {
  const parts = thread.until(now).map(([begin, end, kind]) => element("svg:rect", {
    class: kind, x: percent(begin / length), width: percent((end - begin) / length),
    y: (16 - BARS[kind]) / 2, height: BARS[kind],
  }));
  const tick = (time, path) => element("svg:svg", { x: percent(time / length), overflow: "visible" },
    element("svg:path", { class: "tick", d: path }));
  parts.push(...thread.spawns.map((time) => tick(time, "M-4 4h8l-4 8z")));
  parts.push(...thread.joins.map((time) => tick(time, "M-4 12h8l-4 -8z")));
  return element("svg:g", { class: chain.has(thread.id) ? "chain" : "" }, ...parts);
}

function axis(length, width) {
  const least = length / Math.max(1, Math.floor(width / AXIS_PX));
  const power = 10 ** Math.floor(Math.log10(least));
  const step = [1, 2, 5].map((shift) => shift * power).find((each) => each >= least) ?? 10 * power;
  const marks = [];
  for (let index = 0; index * step <= length * 0.97; index += 1) {
    const words = `${Number((index * step).toPrecision(6))}${index ? "" : " s"}`;
    marks.push(element("svg:text", { class: "quiet", x: percent((index * step) / length), y: 13 }, words));
  }
  return marks;
}

function noteOf(rollout, thread) {
  if (thread.waiting) {
    const children = thread.rounds.at(-1).children;
    const ended = children.filter((child) => (rollout.threads.get(child)?.closed ?? null) !== null);
    return `${ended.length} of ${children.length} children ended`;
  }
  if (thread.reason === null) return lastLine(thread.text);
  if (thread.result !== null) return `claims ${lastLine(thread.result)}`;
  return ENDS[thread.reason] + (thread.detail ? `: ${clean(thread.detail)}` : "");
}

class Picture {
  constructor() {
    this.list = at("threads");
    this.list.addEventListener("keydown", (event) => this.key(event));
    this.clear();
  }

  clear() {
    Object.assign(this, { rollout: new Rollout(), rows: new Map(), selected: MAIN, begin: null, over: false });
    this.list.replaceChildren();
    at("search").hidden = true;
    at("meters").textContent = "";
  }

  apply(event) {
    this.begin ??= performance.now() - 1000 * event.time;
    this.rollout.apply(event);
  }

  // Seconds of the rollout that are shown.
  get now() {
    if (this.over || this.begin === null) return this.rollout.seconds;
    return Math.max(this.rollout.seconds, (performance.now() - this.begin) / 1000);
  }

  draw() {
    const { rollout, now } = this;
    const threads = rollout.ordered();
    if (!threads.length) return;
    at("search").hidden = false;
    const chain = rollout.chain();
    const length = Math.max(now, 1e-6);
    let before = null;
    for (const thread of threads) {
      const row = this.rows.get(thread.id) ?? this.add(thread, before);
      const mark = rollout.mark(thread);
      const [sign, , note, tokens] = row.firstChild.children;
      sign.textContent = SIGNS[mark];
      sign.className = `sign ${mark}`;
      sign.title = mark;
      note.textContent = noteOf(rollout, thread);
      tokens.textContent = `${thread.tokens.toLocaleString("en")} tok`;
      row.lastChild.replaceChildren(bar(thread, length, now, chain));
      before = row;
    }
    const scale = document.querySelector(".axis");
    scale.replaceChildren(...axis(length, scale.clientWidth));
    const total = threads.reduce((sum, thread) => sum + thread.tokens, 0);
    const running = threads.filter((thread) => thread.reason === null && !thread.waiting).length;
    at("meters").textContent = [
      `${threads.length} thread${threads.length === 1 ? "" : "s"}${running ? ` (${running} running)` : ""}`,
      `${total.toLocaleString("en")} tokens`, `${now.toFixed(2)} s`,
    ].join(" · ");
    this.write();
  }

  add(thread, before) {
    const who = element("span", { class: "who" }, element("span", { class: "sign" }),
      element("span", { class: "name" }, "  ".repeat(thread.depth) + nameOf(thread)),
      element("span", { class: "note" }), element("span", { class: "tokens" }));
    const chosen = thread.id === this.selected;
    const row = element("li", {
      class: "row", role: "treeitem", "aria-level": thread.depth + 1, "aria-selected": chosen, tabindex: chosen ? 0 : -1,
    }, who, element("svg:svg", { class: "timeline bar", role: "presentation" }));
    row.dataset.thread = thread.id;
    row.addEventListener("click", () => this.select(thread.id));
    if (before === null) this.list.prepend(row);
    else before.after(row);
    this.rows.set(thread.id, row);
    return row;
  }

  select(id) {
    for (const [other, row] of this.rows) {
      row.setAttribute("aria-selected", other === id);
      row.tabIndex = other === id ? 0 : -1;
    }
    this.selected = id;
    this.rows.get(id).focus();
    this.write();
  }

  key(event) {
    const rows = Array.from(this.list.children);
    const here = rows.indexOf(this.rows.get(this.selected));
    const there = { ArrowDown: here + 1, ArrowUp: here - 1, Home: 0, End: rows.length - 1 }[event.key];
    if (there === undefined) return;
    event.preventDefault();
    if (rows[there] !== undefined) this.select(rows[there].dataset.thread);
  }

  // The text of the thread that is selected; its end stays in sight for who reads there.
  write() {
    const thread = this.rollout.threads.get(this.selected);
    if (thread === undefined) return;
    const pane = at("text"), text = clean(thread.text);
    const state = thread.waiting ? "waits for its children" : ENDS[thread.reason] ?? "runs";
    at("caption").textContent = `${nameOf(thread)}: ${thread.tokens.toLocaleString("en")} tokens, ${state}`;
    if (pane.textContent === text) return;
    const end = pane.scrollTop + pane.clientHeight >= pane.scrollHeight - 8;
    pane.textContent = text;
    if (end) pane.scrollTop = pane.scrollHeight;
  }
}

// ---- asking

function say(words, tone = "") {
  at("status").textContent = clean(words);
  at("status").className = tone;
}

function asked(form) {
  const values = { stream: true, temperature: form.temperature.valueAsNumber || 0 };
  if (form.seed.value) values.seed = form.seed.valueAsNumber;
  const fields = Array.from(form.querySelectorAll("[name=field]"), (field) => field.value);
  values.apr = { fields, events: true, join: form.join?.value ?? "all" };
  if (form.budget?.value) values.apr.budget = form.budget.valueAsNumber;
  return values;
}

// The values of a stream of server-sent events.
async function* values(response) {
  let rest = "";
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const parts = (rest + value).split("\n\n");
    rest = parts.pop();
    for (const part of parts) if (part !== "data: [DONE]") yield JSON.parse(part.slice("data: ".length));
  }
}

function conclude(rollout) {
  const end = rollout.finished, main = rollout.threads.get(MAIN);
  if (end === null) say("the stream ended early", "bad");
  else if (end.correct) say(`solved: ${end.steps.join(", ") || main.result}`, "good");
  else if (end.correct === null) say(end.failed ? "the engine failed" : `answered: ${main.result ?? lastLine(main.text)}`, end.failed ? "bad" : "good");
  else say(`unsolved: ${main.result === null ? ENDS[end.reason] : end.verdict}`, "warn");
}

async function ask(form, picture, signal) {
  const headers = { "Content-Type": "application/json" };
  const key = form.key.value || sessionStorage.getItem("key");
  if (key) headers.Authorization = `Bearer ${key}`;
  const response = await fetch("v1/completions", { method: "POST", headers, body: JSON.stringify(asked(form)), signal });
  if (response.status === 401) {
    sessionStorage.removeItem("key");
    at("key").hidden = false;
    form.key.focus();
    say(key ? "the server refuses this API key" : "the server asks for an API key", "warn");
    return;
  }
  if (!response.ok) {
    const body = await response.json().catch(() => null);
    say(body?.error?.message ?? `the server answers ${response.status}`, "bad");
    return;
  }
  if (key) sessionStorage.setItem("key", key);
  for await (const value of values(response)) {
    if (value.error) {
      say(value.error.message, "bad");
      return;
    }
    if (value.apr?.event) picture.apply(value.apr.event);
  }
  conclude(picture.rollout);
}

function begin() {
  const form = at("ask"), stop = at("stop"), picture = new Picture();
  let running = null;
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (running !== null) return;
    running = new AbortController();
    stop.disabled = false;
    picture.clear();
    say("searching");
    const frames = setInterval(() => picture.draw(), FRAME_MS);
    try {
      await ask(form, picture, running.signal);
    } catch (error) {
      if (error.name === "AbortError") say("stopped", "warn");
      else say(`no answer: ${error.message}`, "bad");
    } finally {
      clearInterval(frames);
      running = null;
      stop.disabled = true;
      picture.over = true;
      picture.draw();
    }
  });
  stop.addEventListener("click", () => running?.abort());
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") running?.abort();
  });
}

begin();
