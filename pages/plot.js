// Draws props.value with plotly; runs once for each component. plot.py describes the parts of a value.
// What a new value lacks stays as it was: a click sends only marks, another colour only a figure and labels.
// Continued by plot_overlay.js (thumbnails, labels, guests) and plot_events.js (hover, search, slider, links).
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
const FEW = 400; // points on the screen that are drawn as thumbnails
let state = {}; // the parts of the value, as they came last
let places = []; // row → [x, y]
let wide = true; // as it was drawn last
let pictured = false; // thumbnails stand for the points
let found = null; // rows that the search found; null without a search
let selected = null; // rows of a lasso, here or on a linked plot; null without one
let hovered = null; // row below the pointer, here or on a linked plot

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
  const guests = (state.guests || []).flatMap((guest) => [guest.place, guest.towards]);
  const all = [...places, ...state.morph.towards, ...guests].filter(Boolean);
  for (const [axis, part] of [['xaxis', 0], ['yaxis', 1]]) {
    const values = all.map((place) => place[part]);
    const low = Math.min(...values), high = Math.max(...values), rim = (high - low) / 20 || 1;
    themed[axis] = {...themed[axis], range: [low - rim, high + rim], autorange: false};
  }
}

function share() {
  return state.morph ? Number(range.value) / 100 : 0;
}

function between(from, to) {
  return from && to ? [from[0] + share() * (to[0] - from[0]), from[1] + share() * (to[1] - from[1])] : from;
}

function place(row) {
  return state.morph ? between(places[row], state.morph.towards[row]) : places[row];
}

function dim(row) {
  return (found && !found.has(row)) || (selected && !selected.has(row));
}

function pointed(trace) { // a trace of points where they are now, as faint as search and lasso leave them
  if (!trace.customdata) return trace;
  const rows = trace.customdata.map((data) => row({customdata: data}));
  const shown = {...trace};
  if (state.morph) {
    const now = rows.map(place);
    Object.assign(shown, {x: now.map((point) => point[0]), y: now.map((point) => point[1])});
  }
  if (selected) shown.selectedpoints = rows.flatMap((chosen, i) => (selected.has(chosen) ? [i] : []));
  if (pictured) shown.marker = {...trace.marker, size: 1, opacity: 1}; // below its thumbnail
  else if (found) shown.marker = {...trace.marker, opacity: rows.map((chosen) => (found.has(chosen) ? 1 : 0.08))};
  return shown;
}

function nearest() { // rows around the chosen point, at the end of the slider that is nearer
  return (share() > 0.5 && state.marks.towards) || state.marks.neighbours;
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
  return [ring(nearest(), 11, 1), ring([state.marks.row], 19, 2.5)];
}

function reach() { // unseen points that keep a person's own images within the axes
  if (!state.guests || !state.guests.length) return [];
  const where = state.guests.map((guest) => between(guest.place, guest.towards));
  const marker = {size: 40, opacity: 0};
  return [{type: 'scattergl', mode: 'markers', name: 'guests', x: where.map((at) => at[0]), y: where.map((at) => at[1]), hoverinfo: 'skip', showlegend: false, marker}];
}

function traces(swap) {
  return [...state.figure.data.map((trace) => slim(inked(pointed(trace), swap, false))), ...reach(), ...marks(swap)];
}

function draw() {
  if (!state.figure) return;
  wide = area.clientWidth > WIDE;
  const swap = colours(), {height} = state.figure.layout || {};
  area.style.height = props.follows && height ? `${height}px` : '';
  const config = {displaylogo: false, showSendToCloud: false, responsive: true, displayModeBar: state.cards ? true : 'hover', ...(state.config || {})};
  if (state.cards) Object.assign(config, {modeBarButtonsToRemove: ['select2d', 'autoScale2d'], scrollZoom: true});
  Plotly.react(area, traces(swap), layout(swap), config).then(() => {
    listen();
    overlay();
  });
}

function receive() {
  card.hidden = true;
  if (!props.value) {
    if (state.figure) Plotly.purge(area);
    delete area.dataset.listening;
    area.style.height = '';
    state = {};
    tools();
    overlay();
    return;
  }
  const news = JSON.parse(props.value);
  state = {...state, ...news};
  if (news.figure) take(news);
  tools();
  if (news.cards) sheet.src = news.cards.sprite;
  draw();
  if (news.figure && news.morph && news.morph.play) playOnceSeen();
}

function take(news) {
  places = [];
  for (const trace of news.figure.data.filter((trace) => /^scatter/.test(trace.type))) {
    for (const key of ['x', 'y', 'customdata']) if (trace[key]) trace[key] = plain(trace[key]);
    if (trace.customdata) trace.customdata.forEach((data, i) => { places[row({customdata: data})] = [trace.x[i], trace.y[i]]; });
  }
  if (!('morph' in news)) return; // other colours of the same points
  stop();
  [selected, hovered] = [null, null];
  look();
  if (!news.morph) return;
  range.value = 0;
  slider.querySelector('.from').textContent = news.morph.from;
  slider.querySelector('.to').textContent = news.morph.to;
}

function row(point) {
  const data = point.customdata;
  return Array.isArray(data) ? data[0] : data;
}
