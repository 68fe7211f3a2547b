// The relay, live: an overview asked for once a second, and events as they come. No framework, nothing from elsewhere.
//
// - What comes from the relay or its clients is text: it is set as text, never as markup.
// - The token, when there is one, stays in this tab (sessionStorage). EventSource cannot send it, so events are read by fetch.
// - Everything kept is bounded: SAMPLES points of a plot, ROWS events, BUFFER characters of an event.
"use strict";

const EVERY = 1000;
const RETRY = 2000;
const SAMPLES = 600;
const ROWS = 20;
const BUFFER = 65536;
const REGIMES = ["idle", "kernel", "handle", "link", "announce", "handshake", "operator", "timers"];
const KINDS = "kind=tip,node_link,ban,unban,kick,total_capacity";

const $ = (id) => document.getElementById(id);
const samples = [];
let last = null;
let hurry = null;

class Refused extends Error {}

async function ask(path, signal) {
  const token = sessionStorage.getItem("token");
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  const answer = await fetch(path, { headers, signal, cache: "no-store" });
  if (answer.status === 401) throw new Refused("the token is missing or wrong");
  if (!answer.ok) throw new Error(`status ${answer.status}`);
  return answer;
}

const json = async (path) => (await ask(path, AbortSignal.timeout(15000))).json();

// ---- the overview

async function look() {
  const [info, services, nodes] = await Promise.all(
    ["/api/v1/info", "/api/v1/services", "/api/v1/nodes"].map(json));
  show(info, services.services, nodes.nodes);
}

function show(info, services, nodes) {
  if (last && last.started !== info.started) {
    last = null;
    shown.clear();
  }
  const shards = info.per_shard.map((shard, n) => rates(shard, last && last.per_shard[n]));
  const sum = (what) => shards.reduce((all, shard) => all + (shard[what] || 0), 0);
  const put = (id, value) => { $(id).textContent = value ?? "-"; };
  put("relay", `${info.version} ${info.network}, since ${new Date(info.started * 1000).toLocaleString()}`);
  for (const id of ["height", "tip", "mempool", "clients", "max_clients", "ready", "v2", "tls", "probes", "priority"]) {
    put(id, info[id]);
  }
  put("plain", Math.max(0, info.clients - info.v2 - info.tls));
  put("free", Math.max(0, info.sessions - info.priority));
  put("rate_in", amount(sum("in")));
  put("rate_out", amount(sum("out")));
  put("told", info.announcements.clients);
  for (const id of ["p50", "p99", "max"]) put(id, time(info.announcements[id]));
  fill("shards", shards.map((shard) => [shard.shard, shard.clients, amount(shard.in), amount(shard.out),
    time(shard.announcements.p50), time(shard.announcements.p99),
    shard.parts ? `${Math.round(100 * (1 - shard.parts[0]))}%` : "-", bar(shard.parts)]));
  fill("services", services.map((s) => [s.id, s.name, s.draining ? "draining" : "open", s.tls ? "tls" : "plain",
    `${s.sessions}/${s.max_sessions}`, `${s.probes}/${s.max_probes}`, s.listen.join(" ")]));
  fill("nodes", nodes.map((n) => [n.node, n.up ? "up" : "down", n.transport, n.losses, n.user_agent]));
  samples.push({ at: Date.now(), clients: info.clients, p50: info.announcements.p50, p99: info.announcements.p99 });
  if (samples.length > SAMPLES) samples.shift();
  plot("clients_plot", ["clients"], String);
  plot("latency_plot", ["p99", "p50"], time);
  // A shard reports once a second: an answer in between says nothing new of it.
  const seconds = (of) => of.per_shard.map((shard) => total(shard)).join();
  if (!last || seconds(last) !== seconds(info)) last = info;
}

const total = (shard) => REGIMES.reduce((all, name) => all + shard.regimes[name], 0);

// The regimes add up to the shard's time, so that no clock is needed here.
function rates(now, before) {
  const seconds = before ? total(now) - total(before) : 0;
  if (!(seconds > 0)) return { ...now, ...(shown.get(now.shard) || {}) };
  const rate = {
    in: (now.bytes_in - before.bytes_in) / seconds,
    out: (now.bytes_out - before.bytes_out) / seconds,
    parts: REGIMES.map((name) => (now.regimes[name] - before.regimes[name]) / seconds),
  };
  shown.set(now.shard, rate);
  return { ...now, ...rate };
}
const shown = new Map();

function time(seconds) {
  if (seconds === null || seconds === undefined) return "-";
  if (seconds < 0.01) return `${(seconds * 1000).toFixed(1)} ms`;
  return seconds < 1 ? `${Math.round(seconds * 1000)} ms` : `${seconds.toFixed(1)} s`;
}

function amount(bytes) {
  if (bytes === undefined) return "-";
  const units = ["B", "kB", "MB", "GB", "TB"];
  const at = Math.min(units.length - 1, Math.max(0, Math.floor(Math.log10(Math.max(1, bytes)) / 3)));
  return `${(bytes / 1000 ** at).toFixed(at ? 1 : 0)} ${units[at]}`;
}

// ---- drawing

function fill(id, rows) {
  const made = rows.map((cells) => {
    const row = document.createElement("tr");
    for (const cell of cells) {
      const td = row.appendChild(document.createElement("td"));
      if (cell instanceof Node) {
        td.className = "time";
        td.append(cell);
      } else {
        td.textContent = cell ?? "-";
        if (cell === "down" || cell === "draining") td.className = "bad";
      }
    }
    return row;
  });
  $(id).tBodies[0].replaceChildren(...made);
}

function drawn(name, attributes) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

function bar(parts) {
  const svg = drawn("svg", { viewBox: "0 0 100 1", preserveAspectRatio: "none" });
  let x = 0;
  (parts || []).forEach((part, n) => {
    svg.append(drawn("rect", { class: `r${n}`, x: x * 100, y: 0, width: Math.max(0, part * 100), height: 1 }));
    x += part;
  });
  return svg;
}

// Times from right to left, ten minutes; a gap where nothing is known.
function plot(id, names, label) {
  const svg = $(id);
  const [width, height] = [svg.clientWidth || 600, svg.clientHeight || 160];
  const most = Math.max(...samples.flatMap((sample) => names.map((name) => sample[name] || 0)), 1e-4);
  const now = samples[samples.length - 1].at;
  const x = (at) => width - (now - at) / (SAMPLES * EVERY) * width;
  const y = (value) => height - 14 - value / most * (height - 34);
  const paths = names.map((name) => {
    let path = "";
    let gap = true;
    for (const sample of samples) {
      const value = sample[name];
      if (value === null || value === undefined) {
        gap = true;
        continue;
      }
      path += `${gap ? "M" : "L"}${x(sample.at).toFixed(1)} ${y(value).toFixed(1)}`;
      gap = false;
    }
    return drawn("path", { d: path, class: name === "p50" ? "p50" : "p99" });
  });
  const top = drawn("text", { x: 4, y: 14 });
  top.textContent = label(most);
  const bottom = drawn("text", { x: 4, y: height - 4 });
  bottom.textContent = "0";
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.replaceChildren(...paths, top, bottom);
}

// ---- events

async function follow() {
  const answer = await ask(`/api/v1/events?${KINDS}`);
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      text += value;
      const blocks = text.split("\n\n");
      text = blocks.pop();
      if (text.length > BUFFER) return;
      blocks.forEach(heard);
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

function heard(block) {
  const data = block.split("\n").filter((line) => line.startsWith("data:")).map((line) => line.slice(5)).join("\n");
  if (!data) return;
  let event;
  try {
    event = JSON.parse(data);
  } catch {
    return;
  }
  if (event.kind === "tip") {
    $("height").textContent = event.height;
    $("tip").textContent = event.hash;
  }
  const words = [event.height, event.hash, event.node, event.link, event.up === undefined ? null : event.up ? "up" : "down",
    event.client, event.peer, event.network, event.capacity, event.reason].filter((word) => word !== undefined && word !== null);
  const row = document.createElement("tr");
  for (const cell of [new Date(event.time * 1000).toLocaleTimeString(), event.kind, words.join(" ")]) {
    row.appendChild(document.createElement("td")).textContent = cell;
  }
  const body = $("events").tBodies[0];
  body.prepend(row);
  while (body.rows.length > ROWS) body.lastElementChild.remove();
  // What has changed is seen at once.
  if (hurry) hurry();
}

// ---- the two loops

function state(text, bad) {
  $("state").textContent = text;
  $("state").className = bad ? "bad" : "";
}

function lock(why) {
  $("main").hidden = true;
  $("door").hidden = false;
  $("refused").textContent = sessionStorage.getItem("token") ? why : "";
  state("locked", true);
}

const pause = (time) => new Promise((done) => {
  const timer = setTimeout(done, time);
  hurry = () => { clearTimeout(timer); done(); };
});
const sleep = (time) => new Promise((done) => setTimeout(done, time));

let unlocked;
const opened = () => new Promise((done) => { unlocked = done; });

async function looks() {
  for (;;) {
    try {
      await look();
      $("door").hidden = true;
      $("main").hidden = false;
      state("live", false);
      if (!following) follows();
      await pause(EVERY);
    } catch (error) {
      if (error instanceof Refused) {
        lock(error.message);
        await opened();
      } else {
        state("no answer, trying again", true);
        await sleep(RETRY);
      }
    }
  }
}

// Begins with the first answer: until then there is no token, or nobody to ask.
let following = false;
async function follows() {
  following = true;
  try {
    await follow();
  } catch {
    // The other loop says what is the matter.
  }
  await sleep(RETRY);
  following = false;
}

$("door").addEventListener("submit", (submitted) => {
  submitted.preventDefault();
  sessionStorage.setItem("token", $("token").value.trim());
  $("token").value = "";
  if (unlocked) unlocked();
});

REGIMES.forEach((name, n) => {
  const mark = document.createElement("i");
  mark.className = `r${n}`;
  $("legend").append(mark, name);
});
looks();
