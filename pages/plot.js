// Draws props.value, {figure, cards, marks, morph}, with plotly; runs once for each component.
// What a new value lacks stays as it was: a click sends only marks, another colour only a figure.
const frame = element.querySelector('.plot');
const area = element.querySelector('.plot-area');
const card = element.querySelector('.plot-card');
const slider = element.querySelector('.plot-morph');
const range = slider.querySelector('input');
const ARRAYS = {
  i1: Int8Array, u1: Uint8Array, i2: Int16Array, u2: Uint16Array, i4: Int32Array, u4: Uint32Array, f4: Float32Array, f8: Float64Array,
};
// What figures for a light page are drawn with, metalora/plots/palette.py: it follows the page's theme here.
const INK = '#333333', GRID = '#e3e3e3';
const WIDE = 640; // pixels from which on a legend stands beside the points
let state = {}; // figure, cards, marks, morph, as they came last
let places = []; // row → [x, y]
let wide = true; // as it was drawn last

function plain(values) { // plotly.py sends arrays in base64
  if (!values || !values.bdata) return values;
  const bytes = Uint8Array.from(atob(values.bdata), (letter) => letter.charCodeAt(0));
  const flat = Array.from(new ARRAYS[values.dtype](bytes.buffer));
  const width = Number(String(values.shape || '').split(',')[1]);
  return width ? Array.from({length: flat.length / width}, (_, i) => flat.slice(i * width, (i + 1) * width)) : flat;
}

function colours() {
  const style = getComputedStyle(document.body);
  return {[INK]: style.getPropertyValue('--body-text-color').trim(), [GRID]: style.getPropertyValue('--border-color-primary').trim()};
}

function inked(part, swap, coloured) {
  if (typeof part === 'string') return (coloured && swap[part.toLowerCase()]) || part;
  if (!part || typeof part !== 'object') return part;
  if (Array.isArray(part)) return coloured || typeof part[0] === 'object' ? part.map((entry) => inked(entry, swap, coloured)) : part;
  return Object.fromEntries(Object.entries(part).map(([key, value]) => [key, inked(value, swap, /colou?r(scale)?$/.test(key))]));
}

function layout(swap) {
  const themed = inked(state.figure.layout || {}, swap, false);
  const rules = {gridcolor: swap[GRID], linecolor: swap[GRID], zerolinecolor: swap[GRID]};
  const base = themed.template || {};
  themed.template = {...base, layout: {...(base.layout || {})}};
  for (const axis of ['xaxis', 'yaxis']) themed.template.layout[axis] = {...themed.template.layout[axis], ...rules};
  for (const key of Object.keys(themed)) {
    if (/^[xy]axis\d*$/.test(key)) themed[key] = {...themed[key], ...rules};
  }
  Object.assign(themed, {paper_bgcolor: 'rgba(0,0,0,0)', plot_bgcolor: 'rgba(0,0,0,0)', autosize: true});
  themed.font = {...(themed.font || {}), color: swap[INK]};
  themed.modebar = {...(themed.modebar || {}), color: swap[INK], bgcolor: 'rgba(0,0,0,0)'};
  delete themed.width;
  delete themed.height;
  if (themed.coloraxis) themed.coloraxis = slim(themed.coloraxis);
  if (state.cards) narrow(themed);
  if (state.morph) hold(themed);
  return themed;
}

function narrow(themed) { // a legend beside the points would leave them no room
  themed.margin = {...themed.margin, t: 34};
  if (themed.title) themed.title = {...themed.title, font: {...themed.title.font, size: 14}}; // the modebar stands beside it
  if (area.clientWidth > WIDE) return;
  if (themed.title) { // below the modebar
    themed.margin.t = 60;
    Object.assign(themed.title, {yref: 'paper', y: 1, yanchor: 'bottom', pad: {b: 6}});
  }
  themed.legend = {...themed.legend, orientation: 'h', x: 0, y: -0.2, yanchor: 'top', font: {size: 11}};
}

function slim(part) { // on a narrow screen a colour bar leaves the cells their room
  if (!part.colorbar || area.clientWidth > WIDE) return part;
  return {...part, colorbar: {...part.colorbar, thickness: 12, title: {...part.colorbar.title, side: 'right'}}};
}

function hold(themed) { // axes that stay while the points move
  const all = [...places, ...state.morph.towards].filter(Boolean);
  for (const [axis, part] of [['xaxis', 0], ['yaxis', 1]]) {
    const values = all.map((place) => place[part]);
    const low = Math.min(...values), high = Math.max(...values), rim = (high - low) / 20 || 1;
    themed[axis] = {...themed[axis], range: [low - rim, high + rim], autorange: false};
  }
}

function place(row) {
  const from = places[row];
  if (!state.morph || !from) return from;
  const to = state.morph.towards[row], share = Number(range.value) / 100;
  return [from[0] + share * (to[0] - from[0]), from[1] + share * (to[1] - from[1])];
}

function moved(trace) {
  if (!state.morph || !trace.customdata) return trace;
  const now = trace.customdata.map((data) => place(row({customdata: data})));
  return {...trace, x: now.map((point) => point[0]), y: now.map((point) => point[1])};
}

function marks(swap) { // the chosen point and its neighbours, above the others
  if (!state.marks || state.marks.row === null) return [];
  const ring = (rows, size, width) => {
    const where = rows.map(place).filter(Boolean);
    const line = {color: swap[INK], width};
    return {
      type: 'scattergl', mode: 'markers', x: where.map((at) => at[0]), y: where.map((at) => at[1]), hoverinfo: 'skip', showlegend: false,
      marker: {symbol: 'circle-open', size, color: swap[INK], line}, unselected: {marker: {opacity: 1}},
    };
  };
  return [ring(state.marks.neighbours, 11, 1), ring([state.marks.row], 19, 2.5)];
}

function traces(swap) {
  return [...state.figure.data.map((trace) => slim(inked(moved(trace), swap, false))), ...marks(swap)];
}

function draw() {
  if (!state.figure) return;
  wide = area.clientWidth > WIDE;
  const swap = colours(), {height} = state.figure.layout || {};
  area.style.height = props.follows && height ? `${height}px` : '';
  const config = {displaylogo: false, showSendToCloud: false, responsive: true, displayModeBar: state.cards ? true : 'hover', ...(state.config || {})};
  if (state.cards) config.modeBarButtonsToRemove = ['select2d', 'autoScale2d'];
  Plotly.react(area, traces(swap), layout(swap), config).then(listen);
}

function receive() {
  card.hidden = true;
  if (!props.value) {
    if (state.figure) Plotly.purge(area);
    delete area.dataset.listening;
    state = {};
    slider.hidden = true;
    return;
  }
  const news = JSON.parse(props.value);
  if (news.figure) take(news);
  state = {...state, ...news};
  slider.hidden = !state.morph;
  draw();
}

function take(news) {
  places = [];
  for (const trace of news.figure.data.filter((trace) => /^scatter/.test(trace.type))) {
    for (const key of ['x', 'y', 'customdata']) if (trace[key]) trace[key] = plain(trace[key]);
    if (trace.customdata) trace.customdata.forEach((data, i) => { places[row({customdata: data})] = [trace.x[i], trace.y[i]]; });
  }
  if (!news.morph) return;
  range.value = 0;
  slider.querySelector('.from').textContent = news.morph.from;
  slider.querySelector('.to').textContent = news.morph.to;
}

function row(point) {
  const data = point.customdata;
  return Array.isArray(data) ? data[0] : data;
}

function listen() {
  if (area.dataset.listening) return;
  area.dataset.listening = 'yes';
  area.on('plotly_click', (event) => {
    const chosen = row(event.points[0]);
    if (chosen !== undefined) trigger('point', {row: chosen});
  });
  area.on('plotly_selected', (event) => {
    trigger('lasso', {rows: event ? event.points.map(row).filter((chosen) => chosen !== undefined) : []});
  });
  area.on('plotly_deselect', () => trigger('lasso', {rows: []}));
  area.on('plotly_hover', (event) => show(row(event.points[0]), event.event));
  area.on('plotly_unhover', () => { card.hidden = true; });
}

function tile(sheet, index, rows, width, height) {
  const part = document.createElement('div');
  part.style.width = `${width}px`;
  part.style.height = `${height}px`;
  part.style.backgroundImage = `url("${sheet.sprite}")`;
  part.style.backgroundSize = `${sheet.columns * width}px ${rows * height}px`;
  part.style.backgroundPosition = `-${(index % sheet.columns) * width}px -${Math.floor(index / sheet.columns) * height}px`;
  part.className = 'plot-image';
  return part;
}

function words(name, text) {
  const line = document.createElement('div');
  line.className = name;
  line.textContent = text;
  return line;
}

function show(index, event) {
  const cards = state.cards;
  if (!cards || index === undefined || !event) return;
  const side = cards.tile * Math.max(1, Math.floor(96 / cards.tile));
  const parts = [
    tile(cards, index, Math.ceil(cards.names.length / cards.columns), side, side),
    words('plot-name', cards.names[index]),
    words('plot-line', cards.lines[index]),
  ];
  if (cards.strips) parts.push(tile(cards.strips, index, cards.strips.rows, 168, 48), words('plot-line', 'its adapter, layers from left to right'));
  card.replaceChildren(...parts);
  card.hidden = false;
  const box = frame.getBoundingClientRect();
  const left = event.clientX - box.left;
  card.style.left = `${Math.max(0, left > box.width / 2 ? left - card.offsetWidth - 12 : left + 12)}px`;
  card.style.top = `${Math.max(0, Math.min(event.clientY - box.top, box.height - card.offsetHeight))}px`;
}

function whenReady() {
  if (window.Plotly) receive();
  else setTimeout(whenReady, 50);
}

let waiting = false;
range.addEventListener('input', () => { // at most once for each frame of the screen
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => { waiting = false; draw(); });
});
whenReady();
watch('value', whenReady);
let later;
function refit() { // plotly follows the window by itself, but not the sidebar
  const drawn = area._fullLayout && area._fullLayout.width;
  if (!state.figure || !drawn || !area.clientWidth || Math.abs(drawn - area.clientWidth) <= 1) return;
  if (area.clientWidth > WIDE !== wide) draw();
  Plotly.Plots.resize(area);
}
new ResizeObserver(() => {
  clearTimeout(later);
  later = setTimeout(refit, 100);
}).observe(area);
new MutationObserver(() => { if (window.Plotly) draw(); }).observe(document.body, {attributes: true, attributeFilter: ['class']});
