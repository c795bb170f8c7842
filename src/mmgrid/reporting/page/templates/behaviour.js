"use strict";
(function () {
  const root = document.documentElement;
  const shared = JSON.parse(document.getElementById("payload").textContent);
  const systemDark = window.matchMedia("(prefers-color-scheme: dark)");
  const all = (selector, within) => Array.from((within || document).querySelectorAll(selector));

  // ---- shared data: stored as columns, passed to the charts as records -------------------------------------------
  const records = {};
  const unpacked = (column) => Array.isArray(column) ? column : column.places.map((place) => column.texts[place]);
  for (const [name, packed] of Object.entries(shared.data)) {
    const columns = Object.fromEntries(Object.entries(packed).map(([key, column]) => [key, unpacked(column)]));
    const keys = Object.keys(columns);
    const length = keys.length ? columns[keys[0]].length : 0;
    records[name] = Array.from({ length }, (_, i) => Object.fromEntries(keys.map((key) => [key, columns[key][i]])));
  }

  // ---- groups of users -------------------------------------------------------------------------------------
  // An element with data-of is about one group; `hidden` also hides it from assistive tools.
  function showGroup(group) {
    root.dataset.group = group;
    for (const element of all("[data-of]")) element.hidden = element.dataset.of !== group;
    for (const view of Object.values(views)) set(view, "group", group);
  }

  // ---- figures ---------------------------------------------------------------------------------------------
  const views = {};
  const chosen = {}; // figure → parameter → value; survives a redraw in another scheme

  const isDark = () => (root.dataset.scheme || (systemDark.matches ? "dark" : "light")) === "dark";

  function theme(legendColumns) {
    const config = JSON.parse(JSON.stringify(shared.themes[isDark() ? "dark" : "light"]));
    config.font = getComputedStyle(document.body).fontFamily;
    config.legend.columns = legendColumns;
    return config;
  }

  function set(view, name, value) {
    try { view.signal(name, value); } catch (error) { return; } // the figure lacks this parameter
    view.runAsync();
  }

  // As figure_files.sized_spec does in Python for a single width.
  function fit(spec, figure, room) {
    if (!spec.spec) { // a single panel
      if (!figure.panelPixels) spec.width = Math.max(140, Math.min(room, figure.maxPixels || room));
      return;
    }
    const gap = spec.config.facet.spacing + 14 + figure.axisPixels; // 14: the last label of an axis extends beyond its panel
    spec.columns = Math.max(1, Math.min(figure.panels, Math.floor((room + gap) / ((figure.panelPixels || 190) + gap))));
    if (!figure.panelPixels) {
      spec.spec.width = Math.max(140, Math.floor((room - gap * (spec.columns - 1)) / spec.columns));
    }
  }

  // As figure.with_metric does in Python: titles name the metric that is shown.
  function named(figure) {
    const fallback = figure.spec.params.find((parameter) => parameter.name === "metric");
    const metric = (chosen[figure.id] || {}).metric || (fallback && fallback.value);
    const name = JSON.stringify(figure.metrics[metric] || "").slice(1, -1);
    return JSON.parse(JSON.stringify(figure.spec).replaceAll(shared.metricMark, name));
  }

  async function draw(figure) {
    const holder = document.querySelector(`#${figure.id} .canvas`);
    const spec = named(figure);
    spec.datasets = Object.fromEntries(figure.data.map((name) => [name, records[name]]));
    spec.description = figure.label;
    const room = holder.parentElement.clientWidth - figure.labelPixels - 16;
    spec.config = theme(Math.max(1, Math.floor(room / figure.legendPixels)));
    const values = Object.assign({ group: root.dataset.group }, chosen[figure.id], shared.inks[isDark() ? "dark" : "light"]);
    for (const parameter of spec.params) if (parameter.name in values) parameter.value = values[parameter.name];
    fit(spec, figure, room);
    if (views[figure.id]) views[figure.id].finalize();
    const result = await vegaEmbed(holder, spec, {
      mode: "vega-lite", renderer: "svg", actions: false,
      ast: true, // interprets expressions: the page's policy forbids code made from strings
    });
    views[figure.id] = result.view;
  }

  async function save(id) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([await views[id].toSVG()], { type: "image/svg+xml" }));
    link.download = `${id}.svg`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  }

  let drawing = Promise.resolve();
  function drawAll() {
    drawing = drawing.then(async () => {
      for (const figure of shared.figures) await draw(figure);
      root.dataset.drawn = String(Number(root.dataset.drawn || 0) + 1);
    });
    return drawing;
  }

  // ---- tables ----------------------------------------------------------------------------------------------
  function sort(button) {
    const heading = button.closest("th"), table = heading.closest("table"), body = table.tBodies[0];
    const place = Array.from(heading.parentElement.children).indexOf(heading);
    const numeric = heading.classList.contains("number");
    const before = heading.getAttribute("aria-sort");
    // Numbers descend first, texts ascend first; the third click restores the original order.
    const cycle = numeric ? ["descending", "ascending"] : ["ascending", "descending"];
    const next = before === null ? cycle[0] : before === cycle[0] ? cycle[1] : null;
    for (const other of all("th[aria-sort]", table)) other.removeAttribute("aria-sort");
    if (next) heading.setAttribute("aria-sort", next);
    table.classList.toggle("sorted", next !== null);
    const rows = Array.from(body.rows);
    rows.forEach((row, i) => { if (!("given" in row.dataset)) row.dataset.given = i; });
    const value = (row) => {
      const text = row.cells[place].dataset.value;
      return text === undefined ? null : numeric ? Number(text) : text;
    };
    const factor = next === "descending" ? -1 : 1;
    rows.sort((a, b) => {
      const x = value(a), y = value(b), given = a.dataset.given - b.dataset.given;
      if (!next) return given;
      if (x === null || y === null) return x === y ? given : x === null ? 1 : -1;
      return factor * (numeric ? x - y : x.localeCompare(y)) || given;
    });
    body.append(...rows);
  }

  function exported(id, kind) {
    const forms = shared.exports[id];
    if (kind === "csv") return forms.csv;
    const wide = document.getElementById(id).classList.contains("with-minor");
    const latex = wide ? forms.latexAll : forms.latex;
    return latex[""] !== undefined ? latex[""] : latex[root.dataset.group];
  }

  async function copy(text, button) {
    let done = false;
    try {
      await navigator.clipboard.writeText(text);
      done = true;
    } catch (error) {
      // Browsers may deny the clipboard to a page opened from a file; copying a selection still works.
      const area = document.createElement("textarea");
      area.value = text;
      area.className = "unseen";
      document.body.append(area);
      area.select();
      done = document.execCommand("copy");
      area.remove();
      button.focus();
    }
    const label = button.textContent;
    button.textContent = done ? "Copied" : "Not allowed here";
    document.getElementById("said").textContent = button.textContent;
    button.disabled = true;
    setTimeout(() => { button.textContent = label; button.disabled = false; }, 1200);
  }

  // ---- explanations: on hover and on focus; Escape closes them -----------------------------------------------
  const tip = document.getElementById("tip");
  let explains = null, tapped = null;
  for (const button of all("button[title]")) { // the browser's own tooltip is not shown on focus
    button.dataset.hint = button.title;
    button.removeAttribute("title");
  }
  function explain(element) {
    const text = element.dataset.hint || document.getElementById(element.getAttribute("href").slice(1)).textContent;
    if (!text) return;
    explains = element;
    tip.textContent = text;
    tip.hidden = false;
    if (element.dataset.hint) element.setAttribute("aria-describedby", "tip");
    const at = element.getBoundingClientRect(), own = tip.getBoundingClientRect();
    const below = at.bottom + 8 + own.height < window.innerHeight;
    tip.style.left = `${Math.max(8, Math.min(at.left, root.clientWidth - own.width - 8))}px`;
    tip.style.top = `${below ? at.bottom + 8 : Math.max(8, at.top - own.height - 8)}px`;
  }
  function unexplain() {
    if (explains && explains.dataset.hint) explains.removeAttribute("aria-describedby");
    explains = null;
    tip.hidden = true;
  }
  const explainable = (event) => event.target.closest && event.target.closest("a.term, [data-hint]");
  for (const kind of ["mouseover", "focusin"]) {
    document.addEventListener(kind, (event) => { const found = explainable(event); if (found) explain(found); });
  }
  for (const kind of ["mouseout", "focusout"]) document.addEventListener(kind, unexplain);
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") unexplain(); });
  window.addEventListener("scroll", unexplain, { passive: true });
  // A finger cannot hover: the first tap explains, and the second goes to the glossary.
  document.addEventListener("click", (event) => {
    const found = event.target.closest("a.term");
    if (!found || !window.matchMedia("(hover: none)").matches || found === tapped) return;
    tapped = found;
    event.preventDefault();
    explain(found);
  });

  // ---- a cue where something is wider than the page --------------------------------------------------------
  const cue = (box) => box.classList.toggle("more", box.scrollWidth > box.clientWidth + 1);
  const sizes = new ResizeObserver((entries) => { for (const entry of entries) cue(entry.target.closest(".scroll")); });
  for (const box of all(".scroll")) for (const element of [box, ...box.children]) sizes.observe(element);

  // ---- wiring ----------------------------------------------------------------------------------------------
  document.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    if ("sort" in button.dataset) sort(button);
    else if (button.dataset.copy) copy(exported(button.dataset.table, button.dataset.copy), button);
    else if (button.dataset.save) save(button.dataset.save);
    else if (button.dataset.copyText) copy(document.getElementById(button.dataset.copyText).textContent, button);
    else if (button.id === "scheme") { root.dataset.scheme = isDark() ? "light" : "dark"; drawAll(); }
  });
  document.addEventListener("change", (event) => {
    const control = event.target;
    if (control.name === "group") showGroup(control.value);
    else if (control.dataset.minor) document.getElementById(control.dataset.minor).classList.toggle("with-minor", control.checked);
    else if (control.dataset.parameter) {
      const { figure, parameter } = control.dataset;
      chosen[figure] = Object.assign({}, chosen[figure], { [parameter]: control.value });
      const drawn = shared.figures.find((one) => one.id === figure);
      if (parameter === "metric" && Object.keys(drawn.metrics).length) drawing = drawing.then(() => draw(drawn));
      else if (views[figure]) set(views[figure], parameter, control.value);
    }
  });
  systemDark.addEventListener("change", () => { if (!root.dataset.scheme) drawAll(); });
  let width = window.innerWidth, waiting;
  window.addEventListener("resize", () => {
    if (window.innerWidth === width) return;
    width = window.innerWidth;
    clearTimeout(waiting);
    waiting = setTimeout(drawAll, 150);
  });

  const checked = document.querySelector("input[name=group]:checked");
  showGroup(checked ? checked.value : root.dataset.group);
  drawAll();
})();
