// The settings of a conversation. What is left empty is the server's own, which stands there in grey.

import {make} from './dom.js';

const kNumbers = {
  temperature: 'default_generation_settings.params.temperature',
  top_p: 'default_generation_settings.params.top_p',
  top_k: 'default_generation_settings.params.top_k',
  min_p: 'default_generation_settings.params.min_p',
  seed: 'default_generation_settings.params.seed',
  max_tokens: 'default_generation_settings.params.n_predict',
};
const kTexts = {
  policy: 'lacake.policy',
  kv_budget: 'lacake.kv_budget'
};

// Seeds and lengths that mean no number.
const kSpecial = {
  seed: {4294967295: 'random'},
  max_tokens: {'-1': 'no limit'}
};

export class Settings {
  // `changed(settings)`
  constructor(changed) {
    this.dialog = document.getElementById('settings');
    this.form = this.dialog.querySelector('form');
    this.form.addEventListener('submit', () => changed(this.read()));
    this.dialog.querySelector('[value="cancel"]').addEventListener('click', () => this.dialog.close());
  }

  open(settings, props) {
    const fields = this.form.elements;
    fields.system.value = settings.system ?? '';
    for (const [name, path] of Object.entries({...kNumbers, ...kTexts})) {
      const standard = path.split('.').reduce((value, key) => value?.[key], props);
      fields[name].value = settings[name] ?? '';
      fields[name].placeholder = kSpecial[name]?.[standard] ?? shortened(standard);
    }
    const policies = props?.lacake?.policies ?? [];
    document.getElementById('policies').replaceChildren(...policies.map((name) => make('option', {value: name})));
    this.dialog.showModal();
  }

  read() {
    const fields = this.form.elements;
    const settings = {};
    for (const name of ['system', ...Object.keys(kTexts)]) {
      if (fields[name].value.trim()) settings[name] = fields[name].value.trim();
    }
    for (const name of Object.keys(kNumbers)) {
      if (fields[name].value !== '') settings[name] = Number(fields[name].value);
    }
    return settings;
  }
}

// The server's numbers have four bytes: 0.95 comes as 0.949999988079071.
function shortened(value) {
  if (value === undefined) return '';
  return typeof value === 'number' ? String(Number(value.toPrecision(6))) : String(value);
}
