// Sorts the rows by the column whose heading is pressed, within each group; rows without a number come last.
// The order stays when the table is drawn anew.
let sorted = null; // the column, its heading, and the order

function sort() {
  for (const table of sorted ? element.querySelectorAll('table') : []) {
    const heads = [...table.tHead.querySelectorAll('[aria-sort]')];
    const head = heads[sorted.column];
    if (!head || head.textContent !== sorted.heading) continue; // a table of other columns
    const value = (row) => parseFloat(row.querySelectorAll('td')[sorted.column].dataset.value);
    heads.forEach((other) => other.setAttribute('aria-sort', 'none'));
    head.setAttribute('aria-sort', sorted.order);
    for (const body of table.tBodies) {
      const rows = [...body.rows].filter((row) => row.querySelector('td'));
      rows.sort((a, b) => {
        const [first, second] = [value(a), value(b)];
        if (Number.isNaN(first) || Number.isNaN(second)) return Number.isNaN(first) - Number.isNaN(second);
        return sorted.order === 'descending' ? second - first : first - second;
      });
      body.append(...rows);
    }
  }
}

element.addEventListener('click', (event) => {
  const button = event.target.closest('th button');
  if (!button) return;
  const head = button.parentNode;
  const order = head.getAttribute('aria-sort') === 'descending' ? 'ascending' : 'descending';
  sorted = {column: [...head.parentNode.children].indexOf(head), heading: head.textContent, order};
  sort();
});
watch('value', () => requestAnimationFrame(sort)); // once the new table stands
