// Many pictures: asked two at a time, each with its row; the results are taken away as one zip, written here.
const PICTURE = /\.(jpe?g|jfif|png|webp|bmp|gif|tiff?|avif|heic|heif)$/i;
const AT_ONCE = 2, ATTEMPTS = 6;
let LIMIT = 2 ** 31;  // bytes of results that wait to be saved; a zip of this kind ends at 4 GiB
let waiting = [], results = [], working = 0, stopped = false, adding = false;
const counts = { all: 0, done: 0, restored: 0, left: 0, failed: 0, others: 0 };
const held = () => results.reduce((sum, one) => sum + one.blob.size, 0);

function take(files) {
  const pictures = files.filter(one => one.file.type.startsWith("image/") || PICTURE.test(one.name));
  counts.others += files.length - pictures.length;
  if (!pictures.length) return say("No picture among these.", true);
  if (pictures.length === 1 && !adding) return open(pictures[0].file);
  show(true, "batch");
  for (const one of pictures) waiting.push({ ...one, cells: addRow(one) });
  counts.all += pictures.length;
  stopped = false;
  proceed();
}

function addRow({ name, file }) {
  const canvas = Object.assign(element("canvas"), { width: 112, height: 84 });
  const look = Object.assign(element("button", name), { title: "Look at it", onclick: () => {
    open(file);
    $("stage").scrollIntoView({ block: "nearest" });
  } });
  const cells = { read: element("td", "waiting"), done: element("td"), result: element("td"), canvas };
  const head = element("td", canvas, look);
  canvas.setAttribute("aria-hidden", "true");
  $("rows").append(element("tr", head, cells.read, cells.done, cells.result));
  return cells;
}

function proceed() {
  while (working < AT_ONCE && waiting.length && !stopped && held() < LIMIT) {
    ++working;
    one(waiting.shift()).finally(() => { --working; proceed(); });
  }
  $("progress").max = counts.all;
  $("progress").value = counts.done;
  show(working || waiting.length, "stop");
  $("stop").textContent = stopped ? "Go on" : "Stop";
  $("zip").disabled = !results.length;
  const parts = ["restored", "left", "failed"].filter(name => counts[name]).map(name => `${counts[name]} ${name}`);
  const words = [`${counts.done} of ${counts.all} done${parts.length ? ": " + parts.join(", ") : ""}`];
  if (counts.others) words.push(`other files, left out: ${counts.others}`);
  if (waiting.length && held() >= LIMIT) words.push("save the zip, then the rest is done");
  else if (waiting.length && stopped) words.push("stopped");
  $("batch-status").textContent = words.join("; ");
}

async function one({ name, file, cells }) {
  cells.read.textContent = "asking ...";
  try {
    const reply = await patiently(() => ask("/api/restore", file));
    const blob = await reply.blob(), degradation = JSON.parse(reply.headers.get("X-Degradation"));
    const action = reply.headers.get("X-Action"), reason = reply.headers.get("X-Reason") || "";
    results.push({ name, blob, cells, answer: { action, reason, degradation } });
    ++counts[action];
    cells.read.textContent = !degradation ? "no valid answer"
      : degradation.type === "none" ? "nothing is wrong" : described(degradation);
    cells.done.textContent = reason ? `${action} (${reason})` : action;
    const save = Object.assign(element("a", "Save"), { className: "button", download: base(name) + ".png", href: "#" });
    save.setAttribute("aria-label", "Save " + name);
    save.onclick = () => showURL(save, "href", blob);
    cells.result.append(save);
    const bitmap = await createImageBitmap(blob, { resizeWidth: 112, resizeHeight: 84 });
    cells.canvas.getContext("2d").drawImage(bitmap, 0, 0);
    bitmap.close();
  } catch (error) {
    ++counts.failed;
    cells.read.textContent = "";
    cells.done.replaceChildren(Object.assign(element("span", "failed: " + error.message), { className: "wrong" }));
  }
  ++counts.done;
}

const number = value => Array.isArray(value) ? "map" : Number(value.toPrecision(3));
const described = ({ type, values }) => plain(type) + Object.entries(values).map(([k, v]) => `, ${plain(k)} ${number(v)}`).join("");

// What may pass is asked again: no room, an answer that took too long, a service that is being started anew.
async function patiently(work) {
  for (let attempt = 1; ; ++attempt) {
    try { return await work(); } catch (error) {
      const passing = !(error instanceof Refused) || error.status >= 500;
      if (!passing || attempt === ATTEMPTS) throw error;
      await new Promise(then => setTimeout(then, 1000 * (error.seconds || attempt)));
    }
  }
}

const base = name => name.split("/").pop().replace(/\.\w+$/, "");

// STEM.png, or STEM.EXT.png where two would have one name; folders stay.
function fileNames(names) {
  const stems = names.map(name => name.replace(/\.\w+$/, "")), used = new Map();
  return names.map((name, i) => {
    let made = stems.indexOf(stems[i]) === stems.lastIndexOf(stems[i]) ? stems[i] : name;
    const times = used.get(made) || 0;
    used.set(made, times + 1);
    return (times ? `${made} (${times + 1})` : made) + ".png";
  });
}

async function saveZip() {
  const taken = results, names = fileNames(taken.map(one => one.name));
  results = [];  // what comes meanwhile is for the next
  $("zip").disabled = true;
  for (const { cells } of taken) cells.result.textContent = "in the zip";  // and nothing holds it any more
  const answers = taken.map((one, i) => ({ image: one.name, file: names[i], ...one.answer }));
  const list = new Blob([JSON.stringify(answers, null, 1) + "\n"], { type: "application/json" });
  const zip = await zipped([...taken.map((one, i) => [names[i], one.blob]), ["answers.json", list]]);
  const link = Object.assign(element("a"), { href: URL.createObjectURL(zip), download: "restored.zip" });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  proceed();
}

const TABLE = Uint32Array.from({ length: 256 }, (_, n) => { for (let k = 8; k--;) n = n & 1 ? 0xedb88320 ^ (n >>> 1) : n >>> 1; return n; });

async function crc32(blob) {
  let crc = ~0;
  for (const byte of new Uint8Array(await blob.arrayBuffer())) crc = TABLE[(crc ^ byte) & 255] ^ (crc >>> 8);
  return ~crc >>> 0;
}

function record(...fields) {  // [bytes, value], little-endian
  const view = new DataView(new ArrayBuffer(fields.reduce((sum, [bytes]) => sum + bytes, 0)));
  let at = 0;
  for (const [bytes, value] of fields) { view[bytes === 2 ? "setUint16" : "setUint32"](at, value, true); at += bytes; }
  return view;
}

// A zip without compression, which PNG has itself: made of the blobs where they lie, one of them read at a time.
async function zipped(entries) {
  const parts = [], directory = [], now = new Date();
  const date = (now.getFullYear() - 1980) << 9 | (now.getMonth() + 1) << 5 | now.getDate();
  const time = now.getHours() << 11 | now.getMinutes() << 5 | now.getSeconds() >> 1;
  let offset = 0, length = 0;
  for (const [name, blob] of entries) {
    const label = new TextEncoder().encode(name);
    const about = [[2, 20], [2, 0x800], [2, 0], [2, time], [2, date], [4, await crc32(blob)], [4, blob.size],
                   [4, blob.size], [2, label.length], [2, 0]];
    const entry = record([4, 0x02014b50], [2, 20], ...about, [2, 0], [2, 0], [2, 0], [4, 0], [4, offset]);
    directory.push(entry, label);
    length += entry.byteLength + label.length;
    parts.push(record([4, 0x04034b50], ...about), label, blob);
    offset += 30 + label.length + blob.size;
  }
  const end = record([4, 0x06054b50], [2, 0], [2, 0], [2, entries.length], [2, entries.length], [4, length], [4, offset], [2, 0]);
  return new Blob([...parts, ...directory, end], { type: "application/zip" });
}

// Files of a drop, folders opened.
async function* within(entry) {
  if (entry.isFile) yield { name: entry.fullPath.slice(1), file: await new Promise((done, no) => entry.file(done, no)) };
  else {
    const reader = entry.createReader();
    for (let some; (some = await new Promise((done, no) => reader.readEntries(done, no))).length;)
      for (const inner of some) yield* within(inner);
  }
}

async function dropped(items) {
  const entries = [...items].map(item => item.webkitGetAsEntry()).filter(Boolean), files = [];
  for (const entry of entries) for await (const file of within(entry)) files.push(file);
  return files;
}

for (const [button, input] of [["choose", "file"], ["choose-folder", "folder"], ["more", "file"]])
  $(button).onclick = () => { adding = button === "more"; $(input).click(); };
for (const input of [$("file"), $("folder")]) input.onchange = () => {
  const files = [...input.files].map(file => ({ name: file.webkitRelativePath || file.name, file }));
  input.value = "";  // the same may be chosen again
  take(files);
};
for (const name of ["dragover", "dragleave", "drop"]) document.addEventListener(name, async event => {
  event.preventDefault();
  $("drop").classList.toggle("over", name === "dragover");
  if (name === "drop") take(await dropped(event.dataTransfer.items));
});
$("zip").onclick = saveZip;
$("stop").onclick = () => { stopped = !stopped; proceed(); };
