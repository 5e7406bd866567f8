// Numbers as people read them.

const kUnits = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];

export function bytes(n) {
  let unit = 0;
  while (n >= 1024 && unit + 1 < kUnits.length) {
    n /= 1024;
    ++unit;
  }
  return `${unit === 0 || n >= 100 ? Math.round(n) : n.toFixed(1)} ${kUnits[unit]}`;
}

export function count(n) {
  return Math.round(n).toLocaleString('en');
}

export function percent(part, whole) {
  if (!whole) return '0 %';
  const share = 100 * part / whole;
  return `${share > 0 && share < 1 ? '< 1' : Math.round(share)} %`;
}
