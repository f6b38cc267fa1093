// One picture: what was read, sliders, before and after. What is shared with `batch.js` comes first.
const $ = id => document.getElementById(id);
const token = new URLSearchParams(location.search).get("token") || "";
let taxonomy = [], picture = null, values = {}, intervals = {}, ratio = 1, pending = 0, timer = 0;

class Refused extends Error {
  constructor(status, words, seconds) { super(words); this.status = status; this.seconds = seconds; }
}

async function ask(path, body) {
  const options = body ? { method: "POST", body } : {};
  const reply = await fetch(path, { ...options, headers: token ? { "X-DUVLM-Token": token } : {} });
  if (reply.ok) return reply;
  const text = await reply.text();
  let detail = text;
  try { detail = JSON.parse(text).detail || text; } catch {}
  throw new Refused(reply.status, typeof detail === "string" ? detail : JSON.stringify(detail),
                    Number(reply.headers.get("Retry-After")));
}

const show = (shown, ...ids) => { for (const id of ids) $(id).hidden = !shown; };
const plain = name => name.replace(/_/g, " ").replace(/\+/g, " + ");
const element = (name, ...children) => { const made = document.createElement(name); made.append(...children); return made; };
const say = (text, wrong = false) => { $("status").textContent = text; $("status").className = wrong ? "wrong" : ""; };
const kind = () => taxonomy.find(t => t.type === $("type").value);
const digits = step => step >= 1 ? 0 : Math.min(6, Math.ceil(-Math.log10(step) - 1e-9));

function showURL(node, attribute, blob) {
  if (node[attribute]?.startsWith("blob:")) URL.revokeObjectURL(node[attribute]);
  node[attribute] = URL.createObjectURL(blob);
}

function keySlider(key) {
  const id = "key-" + key.name, unit = key.unit === "1" ? "" : " " + key.unit;
  const high = key.pixels ? key.high * ratio : key.high;  // pixels are those of the picture as it came
  const slider = Object.assign(document.createElement("input"),
    { type: "range", min: key.low, max: Math.max(high, values[key.name] || 0), step: key.step, id });
  slider.value = values[key.name] ?? (key.low + high) / 2;
  values[key.name] = Number(slider.value);
  const label = Object.assign(element("label", plain(key.name)), { htmlFor: id });
  const shown = element("span");
  shown.setAttribute("aria-hidden", "true");  // the slider itself says it
  const tell = () => {
    shown.textContent = Number(slider.value).toFixed(digits(key.step)) + unit;
    slider.setAttribute("aria-valuetext", shown.textContent);
  };
  slider.oninput = () => {
    values[key.name] = Number(slider.value);
    tell();
    clearTimeout(timer);
    timer = setTimeout(restore, 350);
  };
  tell();
  const head = element("div", label, shown);
  head.className = "key";
  const all = element("div", head, slider), ends = intervals[key.name];
  if (ends) {
    const [low, high] = ends.map(end => Number(end).toFixed(digits(key.step)));
    all.append(Object.assign(element("small", `90 %: ${low} to ${high}`), { id: "interval-" + key.name }));
    slider.setAttribute("aria-describedby", "interval-" + key.name);
  }
  return all;
}

const showSliders = () => $("sliders").replaceChildren(...kind().keys.filter(k => !k.shape.length).map(keySlider));

async function read() {
  const mine = picture;
  say("Asking the model ... (the first answer after a start takes longer)");
  const answer = await (await ask("/api/read", mine)).json();
  if (mine !== picture) return;  // another picture has come meanwhile
  ratio = Math.max(1, answer.ratio);
  const degradation = answer.degradation, left = answer.action === "left", sure = Math.round(100 * answer.confidence);
  $("answer").textContent = !degradation ? "The model gave no valid answer; choose a degradation yourself."
    : degradation.type === "none" ? `Nothing is wrong with it (${sure} % sure).`
    : (answer.text.replace(/\[.*$/, "") || plain(degradation.type)) + (answer.intervals ? ` (${sure} % sure of the type)` : "");
  intervals = answer.intervals || {};
  if (degradation) { $("type").value = degradation.type; values = { ...degradation.values }; }
  show(true, "controls");
  show(left && answer.why === "uncertain", "override");
  showSliders();
  if (!left) await restore();
  else say(answer.why === "uncertain" ? "Left as it is: too little is known to restore it without harm." : "Left as it is.");
}

const chosen = () => ({ type: kind().type, values: Object.fromEntries(kind().keys.map(k => [k.name, values[k.name]])) });

// Sends the picture with what is chosen; what comes back is dropped where another request was made meanwhile.
async function send(path, words, use) {
  clearTimeout(timer);
  const mine = ++pending, wanted = chosen();
  say(words);
  try {
    const blob = await (await ask(`${path}?degradation=${encodeURIComponent(JSON.stringify(wanted))}`, picture)).blob();
    if (mine === pending) await use(blob, wanted);
  } catch (error) { if (mine === pending) say(error.message, true); }
}

const degrade = () => send("/api/degrade", "Degrading ...", async (blob, wanted) => {
  await open(new File([blob], "degraded.png", { type: "image/png" }));
  const set = Object.entries(wanted.values).map(([name, value]) => `${plain(name)} ${value}`).join(", ");
  $("answer").textContent += ` (You set ${plain(wanted.type)}: ${set}.)`;
});

function restore() {
  const started = performance.now();
  return send("/api/restore", "Restoring ...", blob => {
    showURL($("restored"), "src", blob);
    showURL($("save"), "href", blob);
    $("save").download = picture.name.replace(/\.\w+$/, "") + "-restored.png";
    show(true, "restored", "bar", "cut", "tag", "save");
    say(`Restored in ${((performance.now() - started) / 1000).toFixed(1)} s. Drag over the picture to compare.`);
  });
}

async function open(file) {
  clearTimeout(timer);
  picture = file; values = {}; intervals = {}; ratio = 1; ++pending;  // what is being restored is of the picture before
  showURL($("degraded"), "src", file);
  show(false, "drop", "controls", "restored", "bar", "cut", "tag", "save");
  show(true, "stage");
  $("answer").textContent = file.name;
  try { await read(); } catch (error) {
    if (file !== picture) return;
    $("answer").textContent = `Not this picture: ${file.name}`;
    say(error.message, true);
    show(false, "stage");
    show(true, "drop");
  }
}

$("degraded").onload = () => {
  const { naturalWidth: width, naturalHeight: height } = $("degraded");
  $("stage").style.setProperty("--ratio", width / height);
};
$("cut").oninput = () => {
  const before = Math.round($("cut").value);
  $("stage").style.setProperty("--cut", $("cut").value + "%");
  $("cut").setAttribute("aria-valuetext", `${before} % before, ${100 - before} % after`);
};
$("cut").oninput();
$("type").onchange = () => { values = {}; intervals = {}; showSliders(); restore(); };
$("restore").onclick = $("override").onclick = restore;
$("degrade").onclick = degrade;
$("again").onclick = () => read().catch(error => say(error.message, true));
$("other").onclick = () => { show(false, "stage"); show(true, "drop"); $("choose").focus(); };
if (token) $("docs").href += "?token=" + encodeURIComponent(token);

ask("/api/taxonomy").then(reply => reply.json()).then(types => {
  taxonomy = types;
  const options = several => types.filter(t => t.type.includes("+") === several).map(t => new Option(plain(t.type), t.type));
  $("type").replaceChildren(...options(false));
  if (options(true).length) $("type").append(Object.assign(element("optgroup", ...options(true)), { label: "several at once" }));
}).catch(error => say(error.message, true));
