// Above the points, on a canvas that lets the pointer through: thumbnails, names of clusters, a person's own images.
const canvas = element.querySelector('.plot-over');
const pen = canvas.getContext('2d');
const sheet = new Image(); // all thumbnails
const visitors = new Map(); // data URL → image of a guest
const GUEST = 44; // pixels
sheet.addEventListener('load', () => overlay());

function axes() {
  const full = area._fullLayout;
  if (!state.figure || !full || !full.xaxis || !full.yaxis || !full.xaxis._length) return null;
  const {xaxis: x, yaxis: y} = full;
  const [left, right] = x.range, [low, high] = y.range;
  return {
    box: [x._offset, y._offset, x._length, y._length],
    at: (point) => [x._offset + (point[0] - left) / (right - left) * x._length, y._offset + (high - point[1]) / (high - low) * y._length],
  };
}

function seen(view) { // [row, x, y, colour] of the points within the axes, without those that the legend hides
  const [left, top, width, height] = view.box, all = [];
  for (const trace of area._fullData || []) {
    if (trace.visible !== true || !trace.customdata) continue;
    for (const data of trace.customdata) {
      const chosen = row({customdata: data}), point = place(chosen);
      if (!point) continue;
      const [x, y] = view.at(point);
      if (x >= left && x <= left + width && y >= top && y <= top + height) all.push([chosen, x, y, trace.marker.color]);
    }
  }
  return all;
}

function overlay() {
  const view = axes(), ratio = window.devicePixelRatio || 1;
  canvas.width = area.clientWidth * ratio;
  canvas.height = area.clientHeight * ratio;
  canvas.style.height = `${area.clientHeight}px`;
  canvas.dataset.pictures = 0;
  if (!view || !(state.cards || state.labels || state.guests)) return;
  pen.scale(ratio, ratio);
  pen.beginPath();
  pen.rect(...view.box);
  pen.clip();
  const shown = state.cards ? seen(view) : [];
  const want = Boolean(state.cards) && tick.checked && sheet.complete && shown.length > 0 && shown.length < FEW;
  if (want !== pictured) {
    pictured = want;
    draw(); // points become smaller or larger; draws this again
    return;
  }
  if (pictured) pictures(shown, view);
  labels(view, shown);
  guests(view);
}

function pictures(shown, view) {
  const space = Math.sqrt(view.box[2] * view.box[3] / shown.length);
  const side = Math.round(Math.min(56, Math.max(12, 0.5 * space)));
  const ink = getComputedStyle(document.body);
  const accent = ink.getPropertyValue('--primary-500').trim() || 'orange', text = ink.getPropertyValue('--body-text-color').trim() || 'black';
  const ringed = new Set(state.marks && state.marks.row !== null ? nearest() : []);
  const main = state.marks ? state.marks.row : null;
  const stamp = ([chosen, x, y, colour], size, rim, edge) => {
    pen.globalAlpha = dim(chosen) ? 0.1 : 1;
    pen.fillStyle = edge || colour;
    pen.fillRect(x - size / 2 - rim, y - size / 2 - rim, size + 2 * rim, size + 2 * rim);
    cut(chosen, x - size / 2, y - size / 2, size);
    pen.globalAlpha = 1;
  };
  pen.imageSmoothingEnabled = side < state.cards.tile;
  const above = (point) => ringed.has(point[0]) || point[0] === main || point[0] === hovered;
  shown.filter((point) => dim(point[0])).forEach((point) => stamp(point, side, 1.5));
  shown.filter((point) => !dim(point[0]) && !above(point)).forEach((point) => stamp(point, side, 1.5));
  shown.filter((point) => ringed.has(point[0])).forEach((point) => stamp(point, side, 2.5, text));
  shown.filter((point) => point[0] === main).forEach((point) => stamp(point, 1.4 * side, 4, accent));
  shown.filter((point) => point[0] === hovered).forEach((point) => stamp(point, 1.6 * side, 3));
  canvas.dataset.pictures = shown.length; // for tests, and for whoever inspects the page
  canvas.dataset.side = side;
}

function cut(index, x, y, size) { // one thumbnail out of the sheet
  const {tile, columns} = state.cards;
  pen.drawImage(sheet, (index % columns) * tile, Math.floor(index / columns) * tile, tile, tile, x, y, size, size);
}

function labels(view, shown) {
  const style = getComputedStyle(document.body), there = new Set(shown.map((point) => point[0])), taken = [];
  const drawn = [];
  pen.font = `600 13px ${style.fontFamily}`;
  pen.textAlign = 'center';
  pen.textBaseline = 'bottom';
  pen.lineJoin = 'round';
  for (const label of state.labels || []) {
    const strength = label.end === undefined || !state.morph ? 1 : label.end ? 2 * share() - 1 : 1 - 2 * share();
    const point = place(label.row);
    if (strength <= 0 || !point || (shown.length && !there.has(label.row))) continue;
    const [x, middle] = view.at(point), y = middle - 8, half = pen.measureText(label.text).width / 2;
    const box = [x - half - 2, y - 16, x + half + 2, y + 2];
    if (taken.some((other) => box[0] < other[2] && other[0] < box[2] && box[1] < other[3] && other[1] < box[3])) continue;
    taken.push(box);
    drawn.push(label.text);
    pen.globalAlpha = Math.min(1, 3 * strength);
    pen.strokeStyle = style.getPropertyValue('--background-fill-primary').trim() || 'white';
    pen.lineWidth = 4;
    pen.strokeText(label.text, x, y);
    pen.fillStyle = style.getPropertyValue('--body-text-color').trim() || 'black';
    pen.fillText(label.text, x, y);
  }
  pen.globalAlpha = 1;
  canvas.dataset.labels = JSON.stringify(drawn);
}

function portrait(guest) {
  if (!visitors.has(guest.image)) {
    const image = new Image();
    image.addEventListener('load', () => overlay());
    image.src = guest.image;
    visitors.set(guest.image, image);
  }
  return visitors.get(guest.image);
}

function guests(view) { // large, with a ring
  const style = getComputedStyle(document.body), half = GUEST / 2;
  for (const guest of state.guests || []) {
    const [x, y] = view.at(between(guest.place, guest.towards)), image = portrait(guest);
    pen.save();
    pen.beginPath();
    pen.arc(x, y, half, 0, 2 * Math.PI);
    pen.clip();
    if (image.complete && image.naturalWidth) pen.drawImage(image, x - half, y - half, GUEST, GUEST);
    pen.restore();
    for (const [colour, width, radius] of [['white', 2, half], [style.getPropertyValue('--primary-500').trim() || 'orange', 4, half + 3]]) {
      pen.beginPath();
      pen.arc(x, y, radius, 0, 2 * Math.PI);
      pen.strokeStyle = colour;
      pen.lineWidth = width;
      pen.stroke();
    }
  }
  canvas.dataset.guests = (state.guests || []).length;
}

function guestAt(event) { // the person's image below the pointer
  const view = axes(), box = area.getBoundingClientRect();
  if (!view) return undefined;
  return [...(state.guests || [])].reverse().find((guest) => {
    const [x, y] = view.at(between(guest.place, guest.towards));
    return Math.hypot(event.clientX - box.left - x, event.clientY - box.top - y) < GUEST / 2 + 4;
  });
}
