// Layers and positions as a picture. Only what can be seen is drawn, so a long cache costs no more than a short one.

import {make} from './dom.js';
import {columnsOf, nameOf} from './held.js';
import {count} from './units.js';

const kZooms = [1, 2, 4, 8, 16, 32];

export class CachePicture {
  constructor(label) {
    this.canvas = make('canvas', {
      role: 'img',
      tabindex: '0',
      'aria-label': `${label}: layers from top to bottom, ` +
          'positions from left to right. The table has the same in numbers.'
    });
    this.space = make('div', {class: 'space'});
    this.scroller = make('div', {class: 'picture'}, this.canvas, this.space);
    this.hint = make('p', {class: 'hint'});
    this.zoom = make('select', {'aria-label': 'Zoom'}, ...kZooms.map((n) => make('option', {value: n}, `${n} ×`)));
    this.element = make('div', {}, this.scroller, make('div', {class: 'under'}, this.hint, this.zoom));
    this.at = null;  // {position, layer} that is pointed at
    this.zoom.addEventListener('change', () => this.scale());
    this.scroller.addEventListener('scroll', () => this.drawSoon());
    this.canvas.addEventListener('pointermove', (event) => this.point(event));
    this.canvas.addEventListener('pointerleave', () => this.pointAt(null));
    this.canvas.addEventListener('keydown', (event) => this.step(event));
    this.canvas.addEventListener('blur', () => this.pointAt(null));
    new ResizeObserver(() => this.scale()).observe(this.scroller);
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => this.drawSoon());
  }

  show(held) {
    this.held = held;
    this.pointAt(null);
    this.scale();
  }

  scale() {
    if (!this.held || this.scroller.clientWidth === 0) return;
    const {clientWidth} = this.scroller;
    const n_layers = this.held.layers.length;
    this.row = Math.max(3, Math.min(12, Math.floor(240 / n_layers)));
    const height = this.row * n_layers;
    this.width = clientWidth;
    this.space.style.width = `${clientWidth * Number(this.zoom.value)}px`;
    this.scroller.style.height = `${height + (this.zoom.value === '1' ? 0 : 16)}px`;
    const density = window.devicePixelRatio || 1;
    this.canvas.style.width = `${clientWidth}px`;
    this.canvas.style.height = `${height}px`;
    this.canvas.width = Math.round(clientWidth * density);
    this.canvas.height = Math.round(height * density);
    this.drawSoon();
  }

  drawSoon() {
    if (this.frame) return;
    this.frame = requestAnimationFrame(() => {
      this.frame = 0;
      this.draw();
    });
  }

  // The positions that can be seen.
  range() {
    const whole = this.width * Number(this.zoom.value);
    const from = this.held.n_tokens * this.scroller.scrollLeft / whole;
    return [from, Math.min(this.held.n_tokens, from + this.held.n_tokens * this.width / whole)];
  }

  draw() {
    if (!this.held || !this.width) return;
    const style = getComputedStyle(this.element);
    const none = colour(style.getPropertyValue('--held-none'));
    const all = colour(style.getPropertyValue('--held-all'));
    const {width, height} = this.canvas;
    const image = new ImageData(width, height);
    const [from, to] = this.range();
    const n_layers = this.held.layers.length;
    this.held.layers.forEach((layer, i) => {
      const columns = columnsOf(layer, from, to, width);
      const top = Math.round(height * i / n_layers);
      const bottom = Math.max(top + 1, Math.round(height * (i + 1) / n_layers) - (this.row > 4 ? 1 : 0));
      for (let x = 0; x < width; ++x) {
        for (let y = top; y < bottom; ++y) {
          const at = 4 * (y * width + x);
          for (let c = 0; c < 3; ++c) image.data[at + c] = none[c] + (all[c] - none[c]) * columns[x];
          image.data[at + 3] = 255;
        }
      }
    });
    const context = this.canvas.getContext('2d');
    context.putImageData(image, 0, 0);
    if (this.at) this.drawMark(context, from, to, style.getPropertyValue('--ink'));
  }

  drawMark(context, from, to, ink) {
    const {width, height} = this.canvas;
    const x = width * (this.at.position + 0.5 - from) / (to - from);
    const row = height / this.held.layers.length;
    context.strokeStyle = ink;
    context.lineWidth = window.devicePixelRatio || 1;
    context.strokeRect(x - 2.5, 0, 5, height);
    context.strokeRect(x - 4.5, this.at.layer * row, 9, row);
  }

  point(event) {
    const box = this.canvas.getBoundingClientRect();
    const [from, to] = this.range();
    const share = (value, size, n) => Math.max(0, Math.min(n - 1, Math.floor(n * value / size)));
    this.pointAt({
      position:
          Math.min(this.held.n_tokens - 1, Math.floor(from + (to - from) * (event.clientX - box.left) / box.width)),
      layer: share(event.clientY - box.top, box.height, this.held.layers.length),
    });
  }

  // Arrow keys go from token to token and from layer to layer.
  step(event) {
    const steps = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]}[event.key];
    if (!steps || !this.held) return;
    event.preventDefault();
    const {position, layer} = this.at ?? {position: Math.floor(this.range()[0]) - steps[0], layer: 0};
    const within = (value, n) => Math.max(0, Math.min(n - 1, value));
    this.pointAt({
      position: within(position + steps[0], this.held.n_tokens),
      layer: within(layer + steps[1], this.held.layers.length)
    });
    this.hint.setAttribute('aria-live', 'polite');
  }

  pointAt(at) {
    this.at = at && this.held.n_tokens > 0 ? at : null;
    this.hint.textContent = this.at ? this.told() : 'Point at the picture to see which token it is.';
    this.drawSoon();
  }

  told() {
    const {tokens, holders, layers} = this.held;
    const {position, layer} = this.at;
    const of = layers[layer];
    return `${nameOf(tokens[position])} at position ${count(position)}: held by ${holders[position]} of ${
               layers.length} ` +
        `layers, in layer ${of.layer} by ${of.heads[position]} of ${of.n_heads} heads`;
  }
}

// A colour of the style, "#rrggbb", as three numbers.
function colour(text) {
  const digits = text.trim().slice(1);
  return [0, 2, 4].map((at) => parseInt(digits.slice(at, at + 2), 16));
}
