// Where a message is written: text and files. What is in it is told with every change, so that it can be kept.

import {fileList, readFile} from './files.js';

export class Composer {
  // `changed(draft)`; `send(draft)`; `stop()`; `complain(line)`.
  constructor({changed, send, stop, complain}) {
    this.changed = changed;
    this.send = send;
    this.stop = stop;
    this.complain = complain;
    this.form = document.getElementById('composer');
    this.field = document.getElementById('message');
    this.button = document.getElementById('send');
    this.chosen = document.getElementById('file');
    this.files = [];
    this.running = false;
    this.form.addEventListener('submit', (event) => {
      event.preventDefault();
      this.submit();
    });
    this.field.addEventListener('input', () => this.tell());
    this.field.addEventListener('keydown', (event) => {
      if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      if (!this.running) this.submit();
    });
    document.getElementById('attach').addEventListener('click', () => this.chosen.click());
    this.chosen.addEventListener('change', () => {
      this.take([...this.chosen.files]);
      this.chosen.value = '';
    });
    document.getElementById('stop').addEventListener('click', () => this.stop());
    this.acceptDrops(document.getElementById('chat'));
  }

  get draft() {
    return {text: this.field.value, files: this.files};
  }

  show({text, files}) {
    this.field.value = text;
    this.files = files;
    this.draw();
  }

  // Whether an answer is being written: then the button stops it.
  set isRunning(running) {
    this.running = running;
    this.draw();
  }

  focus() {
    this.field.focus();
  }

  submit() {
    const {text, files} = this.draft;
    if (this.running || (!text.trim() && files.length === 0)) return;
    this.send({text: text.trim(), files});
  }

  async take(files) {
    // The conversation may be another one by the time that a long file is read.
    const target = this.files;
    for (const file of files) {
      try {
        target.push(await readFile(file));
      } catch (error) {
        this.complain(error.message);
      }
    }
    if (target === this.files) this.tell();
  }

  tell() {
    this.draw();
    this.changed(this.draft);
  }

  draw() {
    const list = document.getElementById('files');
    list.replaceChildren(this.files.length === 0 ? '' : fileList(this.files, (file) => {
      this.files.splice(this.files.indexOf(file), 1);
      this.tell();
      this.focus();
    }));
    this.button.hidden = this.running;
    this.button.disabled = !this.field.value.trim() && this.files.length === 0;
    document.getElementById('stop').hidden = !this.running;
    // As high as what is in it, to the limit that the style sets.
    this.field.style.height = 'auto';
    this.field.style.height = `${this.field.scrollHeight + 2}px`;
  }

  acceptDrops(area) {
    let depth = 0;  // of elements that were entered and not left
    const over = (change) => {
      depth = Math.max(0, depth + change);
      area.classList.toggle('dropping', depth > 0);
    };
    const hasFiles = (event) => event.dataTransfer?.types.includes('Files');
    area.addEventListener('dragenter', (event) => hasFiles(event) && over(1));
    area.addEventListener('dragleave', (event) => hasFiles(event) && over(-1));
    area.addEventListener('dragover', (event) => hasFiles(event) && event.preventDefault());
    area.addEventListener('drop', (event) => {
      if (!hasFiles(event)) return;
      event.preventDefault();
      over(-depth);
      this.take([...event.dataTransfer.files]);
    });
  }
}
