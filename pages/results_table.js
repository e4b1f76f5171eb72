// Sorts the rows of a table by the column whose heading is pressed, within each group; rows without a number come last.
// One listener for the page, since a table is drawn anew with every value.
if (!window.sortsResults) document.addEventListener('click', (event) => {
  const button = event.target.closest('.results th button');
  if (!button) return;
  const head = button.parentNode;
  const order = head.getAttribute('aria-sort') === 'descending' ? 'ascending' : 'descending';
  const column = [...head.parentNode.children].indexOf(head);
  const value = (row) => parseFloat(row.querySelectorAll('td')[column].dataset.value);
  head.parentNode.querySelectorAll('[aria-sort]').forEach((other) => other.setAttribute('aria-sort', 'none'));
  head.setAttribute('aria-sort', order);
  for (const body of head.closest('table').tBodies) {
    const rows = [...body.rows].filter((row) => row.querySelector('td'));
    rows.sort((a, b) => {
      const [first, second] = [value(a), value(b)];
      if (Number.isNaN(first) || Number.isNaN(second)) return Number.isNaN(first) - Number.isNaN(second);
      return order === 'descending' ? second - first : first - second;
    });
    body.append(...rows);
  }
});
window.sortsResults = true;
