// Hover, click, lasso, search, the slider that moves points, plots that are linked; and the start of it all.
const bar = element.querySelector('.plot-tools');
const button = element.querySelector('.plot-play');
const search = element.querySelector('.plot-search');
const count = element.querySelector('.plot-count');
const pictureBox = element.querySelector('.plot-pictures');
const tick = pictureBox.querySelector('input');
const wait = element.querySelector('.plot-wait');
const SECONDS = 3; // that the points take from one end of the slider to the other
const calm = window.matchMedia('(prefers-reduced-motion: reduce)');
let playing = null, since = null;

function listen() {
  if (area.dataset.listening) return;
  area.dataset.listening = 'yes';
  area.on('plotly_click', (event) => {
    const chosen = row(event.points[0]);
    if (chosen !== undefined) trigger('point', {row: chosen});
  });
  area.on('plotly_selected', (event) => select(event ? event.points.map(row).filter((chosen) => chosen !== undefined) : []));
  area.on('plotly_deselect', () => select([]));
  area.on('plotly_hover', (event) => {
    if (guestAt(event.event)) return;
    show(row(event.points[0]), event.event);
    point(row(event.points[0]));
  });
  area.on('plotly_unhover', () => {
    card.hidden = true;
    point(null);
  });
  for (const name of ['plotly_relayout', 'plotly_relayouting', 'plotly_restyle']) area.on(name, () => overlay());
}

function select(rows) {
  selected = rows.length ? new Set(rows) : null;
  overlay();
  tell({rows});
  trigger('lasso', {rows});
}

function point(chosen) {
  if (hovered === chosen) return;
  hovered = chosen === undefined ? null : chosen;
  if (pictured) overlay();
  tell({hover: hovered});
}

function tell(news) { // other plots of the same images
  if (state.link) window.dispatchEvent(new CustomEvent('plot-link', {detail: {from: frame, link: state.link, ...news}}));
}

window.addEventListener('plot-link', ({detail}) => {
  if (!frame.isConnected || detail.from === frame || !state.link || detail.link !== state.link) return;
  if (detail.rows) {
    selected = detail.rows.length ? new Set(detail.rows) : null;
    draw();
  } else {
    hovered = detail.hover;
    echo();
  }
});

function echo() { // a ring around the image that is hovered on the linked plot
  overlay();
  const view = axes();
  canvas.dataset.echo = hovered === null ? '' : hovered;
  if (hovered === null || !view || !place(hovered)) return;
  const [x, y] = view.at(place(hovered));
  pen.beginPath();
  pen.arc(x, y, 20, 0, 2 * Math.PI);
  pen.strokeStyle = getComputedStyle(document.body).getPropertyValue('--primary-500').trim() || 'orange';
  pen.lineWidth = 3;
  pen.stroke();
}

function tile(part, index, rows, width, height) {
  const box = document.createElement('div');
  box.style.width = `${width}px`;
  box.style.height = `${height}px`;
  box.style.backgroundImage = `url("${part.sprite}")`;
  box.style.backgroundSize = `${part.columns * width}px ${rows * height}px`;
  box.style.backgroundPosition = `-${(index % part.columns) * width}px -${Math.floor(index / part.columns) * height}px`;
  box.className = 'plot-image';
  return box;
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
  open(parts, event);
}

function open(parts, event) {
  card.replaceChildren(...parts);
  card.hidden = false;
  const box = frame.getBoundingClientRect();
  const left = event.clientX - box.left;
  card.style.left = `${Math.max(0, left > box.width / 2 ? left - card.offsetWidth - 12 : left + 12)}px`;
  card.style.top = `${Math.max(0, Math.min(event.clientY - box.top, box.height - card.offsetHeight))}px`;
}

function greet(event) { // a person's own image below the pointer
  const guest = guestAt(event);
  if (guest) open([words('plot-name', guest.name), ...guest.lines.map((text) => words('plot-line', text))], event);
  else if (hovered === null) card.hidden = true;
}

function look() { // rows that have the words: whole classes and tasks first, else any part of class, task or name
  const query = search.value.trim().toLowerCase(), keys = (state.cards && state.cards.keys) || [];
  const rows = (fits) => keys.flatMap((key, i) => (fits(key.map((part) => part.toLowerCase())) ? [i] : []));
  const exact = query ? rows((key) => key.includes(query)) : [];
  found = query ? new Set(exact.length ? exact : rows((key) => key.some((part) => part.includes(query)))) : null;
  count.textContent = found ? `${found.size} of ${keys.length}` : '';
}

function tools() {
  slider.hidden = !state.morph;
  search.hidden = !(state.cards && state.cards.keys);
  pictureBox.hidden = !state.cards;
  bar.hidden = slider.hidden && search.hidden && pictureBox.hidden;
  const text = state.busy || (state.figure ? '' : props.waiting);
  wait.hidden = !text;
  wait.querySelector('p').textContent = text || '';
  if (!text) since = null;
  else if (since === null) since = performance.now();
}

function elapsed() { // seconds that the server has been at it
  if (since === null || !frame.isConnected) return;
  const seconds = Math.floor((performance.now() - since) / 1000);
  wait.querySelector('.plot-seconds').textContent = seconds > 1 ? `${seconds} s` : '';
}

function stop() {
  if (playing) cancelAnimationFrame(playing);
  playing = null;
  button.textContent = '▶';
  button.setAttribute('aria-label', 'Play');
}

function play() {
  if (playing) {
    stop();
    draw();
    return;
  }
  const from = Number(range.value) >= 100 ? 0 : Number(range.value), start = performance.now();
  button.textContent = '❚❚';
  button.setAttribute('aria-label', 'Pause');
  const step = (now) => {
    const passed = Math.min(1, from / 100 + (now - start) / 1000 / SECONDS);
    range.value = Math.round(1000 * passed) / 10;
    if (passed >= 1 || calm.matches) {
      range.value = 100;
      stop();
      draw();
      return;
    }
    if (pictured) overlay(); // points below thumbnails need not move with them
    else draw();
    playing = requestAnimationFrame(step);
  };
  playing = requestAnimationFrame(step);
}

function playOnceSeen() {
  const watcher = new IntersectionObserver((entries) => {
    if (!entries.some((entry) => entry.isIntersecting)) return;
    watcher.disconnect();
    setTimeout(() => { if (state.morph && !playing && Number(range.value) === 0) play(); }, 700);
  });
  watcher.observe(area);
}

function offer(event, files) { // dropped on the plot: as if chosen in the field for files that props.drops names
  const field = props.drops && document.querySelector(`${props.drops} input[type=file]`);
  if (!field) return;
  event.preventDefault();
  frame.classList.toggle('plot-open', event.type === 'dragover');
  if (!files || !files.length) return;
  const bag = new DataTransfer();
  for (const file of files) bag.items.add(file);
  field.files = bag.files;
  field.dispatchEvent(new Event('change', {bubbles: true}));
}

let waiting = false;
range.addEventListener('input', () => { // at most once for each frame of the screen
  stop();
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => { waiting = false; draw(); });
});
button.addEventListener('click', play);
search.addEventListener('input', () => { look(); draw(); });
tick.addEventListener('change', () => overlay());
area.addEventListener('mousemove', greet);
area.addEventListener('wheel', (event) => { // the wheel scrolls the page; with Ctrl, as for a pinch, it zooms
  if (!event.ctrlKey && !event.metaKey) event.stopPropagation();
}, {capture: true});
for (const name of ['dragover', 'dragleave', 'drop']) {
  frame.addEventListener(name, (event) => offer(event, name === 'drop' ? event.dataTransfer.files : null));
}
setInterval(elapsed, 500);

function whenReady() {
  tools();
  if (window.Plotly) receive();
  else setTimeout(whenReady, 50);
}

whenReady();
watch('value', whenReady);
let later;
function refit() { // plotly follows the window by itself, but not the sidebar
  const drawn = area._fullLayout && area._fullLayout.width;
  if (!state.figure || !drawn || !area.clientWidth || Math.abs(drawn - area.clientWidth) <= 1) return;
  if (area.clientWidth > WIDE !== wide) draw();
  Plotly.Plots.resize(area).then(() => overlay());
}
new ResizeObserver(() => {
  clearTimeout(later);
  later = setTimeout(refit, 100);
}).observe(area);
new MutationObserver(() => { if (window.Plotly) draw(); }).observe(document.body, {attributes: true, attributeFilter: ['class']});
