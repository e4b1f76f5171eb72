// Draws props.value, {columns, rows: [{run, cells}], active}; runs once for each component.
// Cells come from outside, run names among them: they are text, never markup.
const frame = element.querySelector('.runs');
const head = element.querySelector('thead tr');
const body = element.querySelector('tbody');
const ticked = new Set();
let drawn = ''; // the value that is on the page

function cell(kind, content, settings = {}) {
  const made = Object.assign(document.createElement(kind), settings);
  made.append(content);
  return made;
}

function tick(run, name) {
  const box = Object.assign(document.createElement('input'), {type: 'checkbox', checked: ticked.has(run), ariaLabel: `Compare ${name}`});
  box.addEventListener('change', () => {
    ticked[box.checked ? 'add' : 'delete'](run);
    trigger('tick', {runs: [...ticked]});
  });
  return box;
}

function row({run, cells}, active) {
  const [name, ...others] = cells;
  const link = Object.assign(document.createElement('button'), {type: 'button', textContent: name, title: 'Show this run'});
  link.addEventListener('click', () => trigger('choose', {run}));
  const made = document.createElement('tr');
  if (run === active) made.setAttribute('aria-current', 'true');
  made.append(cell('td', tick(run, name)), cell('th', link, {scope: 'row'}), ...others.map((text) => cell('td', text)));
  return made;
}

function draw() {
  if (!props.value || props.value === drawn) return;
  drawn = props.value;
  const {columns, rows, active} = JSON.parse(drawn);
  const known = new Set(rows.map(({run}) => run));
  const left = [...ticked].filter((run) => known.has(run));
  const gone = left.length < ticked.size;
  if (gone) [...ticked].filter((run) => !known.has(run)).forEach((run) => ticked.delete(run));
  const focused = document.activeElement && body.contains(document.activeElement)
    ? [...body.querySelectorAll('input, button')].indexOf(document.activeElement) : -1;
  head.replaceChildren(cell('th', 'compare'), ...columns.map((title) => cell('th', title, {scope: 'col'})));
  body.replaceChildren(...rows.map((entry) => row(entry, active)));
  frame.classList.toggle('empty', !rows.length);
  if (focused >= 0) body.querySelectorAll('input, button')[focused]?.focus();
  if (gone) trigger('tick', {runs: left});
}

draw();
watch('value', draw);
