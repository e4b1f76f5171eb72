// Draws props.value, {figure, cards}, with plotly; runs once for each component.
const figure = element.querySelector('.plot');
const area = element.querySelector('.plot-area');
const card = element.querySelector('.plot-card');
let shown = null;

function colours() {
  const style = getComputedStyle(document.body);
  return {ink: style.getPropertyValue('--body-text-color').trim(), rule: style.getPropertyValue('--border-color-primary').trim()};
}

function themed(layout) {
  const {ink, rule} = colours();
  const themed = {...layout, paper_bgcolor: 'rgba(0,0,0,0)', plot_bgcolor: 'rgba(0,0,0,0)', autosize: true};
  delete themed.width;
  delete themed.height;
  themed.font = {...(layout.font || {}), color: ink};
  for (const key of Object.keys(layout)) {
    if (/^[xy]axis\d*$/.test(key)) {
      themed[key] = {...layout[key], gridcolor: rule, linecolor: rule, zerolinecolor: rule};
    }
  }
  return themed;
}

function draw() {
  if (!props.value) {
    if (shown) Plotly.purge(area);
    shown = null;
    return;
  }
  shown = JSON.parse(props.value);
  const config = {displaylogo: false, showSendToCloud: false, responsive: true, ...(shown.config || {})};
  Plotly.react(area, shown.figure.data, themed(shown.figure.layout || {}), config).then(listen);
  area.setAttribute('role', 'img');
  area.setAttribute('aria-label', props.title || '');
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
    trigger('lasso', {rows: event ? event.points.map(row) : []});
  });
  area.on('plotly_deselect', () => trigger('lasso', {rows: []}));
  area.on('plotly_hover', (event) => show(row(event.points[0]), event.event));
  area.on('plotly_unhover', () => { card.hidden = true; });
}

function show(index, event) {
  const cards = shown && shown.cards;
  if (!cards || index === undefined) return;
  const zoom = Math.max(1, Math.floor(96 / cards.tile));
  const picture = document.createElement('div');
  picture.className = 'plot-picture';
  const side = cards.tile * zoom;
  picture.style.width = picture.style.height = `${side}px`;
  picture.style.backgroundImage = `url("${cards.sprite}")`;
  picture.style.backgroundSize = `${cards.columns * side}px auto`;
  picture.style.backgroundPosition = `-${(index % cards.columns) * side}px -${Math.floor(index / cards.columns) * side}px`;
  const name = document.createElement('div');
  name.className = 'plot-name';
  name.textContent = cards.names[index];
  const line = document.createElement('div');
  line.textContent = cards.lines[index];
  card.replaceChildren(picture, name, line);
  card.hidden = false;
  const box = figure.getBoundingClientRect();
  const left = event.clientX - box.left;
  card.style.left = left > box.width / 2 ? `${left - card.offsetWidth - 12}px` : `${left + 12}px`;
  card.style.top = `${Math.max(0, Math.min(event.clientY - box.top, box.height - card.offsetHeight))}px`;
}

function whenReady() {
  if (window.Plotly) draw();
  else setTimeout(whenReady, 50);
}

whenReady();
watch('value', whenReady);
new MutationObserver(() => { if (shown) Plotly.relayout(area, themed(shown.figure.layout || {})); })
  .observe(document.body, {attributes: true, attributeFilter: ['class']});
