// Draws the figures of the page and sorts and filters its tables. Text is only ever set as text.
(function () {
  "use strict";

  const figures = JSON.parse(document.getElementById("figures").textContent);
  const colourKeys = new Set(["color", "fillcolor", "gridcolor", "linecolor", "tickcolor", "colorscale"]);
  const config = { displayModeBar: false, responsive: true };

  const byId = (id) => document.getElementById(id);
  const token = (name) => getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim();
  const onChange = (id, action) => byId(id) && byId(id).addEventListener("change", action);

  // A copy of a figure in which colour tokens such as "@series-1" are the colours of the present scheme.
  function painted(value, isColour) {
    if (Array.isArray(value)) return value.map((inner) => painted(inner, isColour));
    if (value !== null && typeof value === "object") {
      return Object.fromEntries(
        Object.entries(value).map(([key, inner]) => [key, painted(inner, isColour || colourKeys.has(key))])
      );
    }
    return isColour && typeof value === "string" && value[0] === "@" ? token(value.slice(1)) : value;
  }

  function draw(place, figure) {
    place.hidden = !figure;
    if (!figure) return;
    const { data, layout } = painted(figure, false);
    for (const trace of data) {
      if (trace.cells) trace.text = trace.cells.map((cell) => figures.cells[cell]);
      if (trace.colorbar && place.clientWidth < 520) layFlat(trace.colorbar, layout);
    }
    const ink = token("ink"), surface = token("surface"), family = getComputedStyle(document.body).fontFamily;
    Object.assign(layout, {
      font: { family, size: 12.5, color: token("muted") },
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      hoverlabel: { bgcolor: surface, bordercolor: token("axis"), font: { family, color: ink, size: 13 }, align: "left" },
      dragmode: matchMedia("(pointer: fine)").matches ? "zoom" : false,
      autosize: true,
    });
    place.style.height = layout.height ? layout.height + "px" : "";
    Plotly.react(place, data, layout, config);
  }

  // On a narrow page the colour bar lies above the map, so that the map has the whole width.
  function layFlat(bar, layout) {
    Object.assign(bar, { orientation: "h", x: 0.5, xanchor: "center", y: 1, yanchor: "bottom", ypad: 4 });
    layout.margin.t = 64;
    layout.height += 52;
  }

  function drawLaws() {
    const metric = byId("metric").value, view = byId("view").value;
    for (const panel of document.querySelectorAll("figure[data-axis]")) {
      const views = (figures.laws[metric] || {})[panel.dataset.axis];
      draw(panel.querySelector(".plot"), views && views[view]);
      for (const caption of panel.querySelectorAll("[data-metric]")) {
        caption.hidden = caption.dataset.metric !== metric;
      }
    }
  }

  // Of the elements with this data attribute, only those of one value are shown.
  function showOnly(attribute, value) {
    for (const note of document.querySelectorAll(`[${attribute}]`)) note.hidden = note.getAttribute(attribute) !== value;
  }

  function drawInside() {
    const measure = byId("layer-measure").value;
    const of = (figures.inside[Number(byId("layer-base").value)] || {})[measure] || {};
    const z = of.z && of.z[byId("layer-rank").value];
    draw(byId("heat"), z && { ...of.map, data: [{ ...of.map.data[0], z }] });
    draw(byId("along"), of.along);
    byId("heat-note").textContent = z ? "" : "This base model has no such measurement.";
    byId("along-note").hidden = !of.along;
    showOnly("data-measure", measure);
  }

  function drawRowScale() {
    const base = byId("scale-base").value, measure = byId("scale-measure").value, of = figures.row_scale[Number(base)];
    draw(byId("scale-map"), of.maps[measure]);
    draw(byId("scale-strips"), of.strips);
    draw(byId("scale-drift"), of.drift);
    showOnly("data-scale-measure", measure);
    showOnly("data-scale-base", base);
  }

  function drawProbe() {
    draw(byId("probe-map"), figures.maps[byId("probe-measure").value]);
    showOnly("data-measure", byId("probe-measure").value);
  }

  function drawTheory() {
    for (const place of document.querySelectorAll("[data-theory]")) draw(place, figures.theory[place.dataset.theory]);
  }

  function drawAll() {
    if (byId("metric")) drawLaws();
    if (byId("heat")) drawInside();
    if (byId("scale-map")) drawRowScale();
    if (byId("probe-map")) drawProbe();
    if (figures.theory) drawTheory();
    if (byId("cost-plot")) draw(byId("cost-plot"), figures.cost);
  }

  function sortBy(header) {
    const body = header.closest("table").tBodies[0], column = header.cellIndex;
    const down = header.getAttribute("aria-sort") === "ascending";
    for (const other of header.parentElement.cells) other.removeAttribute("aria-sort");
    header.setAttribute("aria-sort", down ? "descending" : "ascending");
    const rows = Array.from(body.rows, (row) => {
      const cell = row.cells[column], number = cell.dataset.value;
      return { row, value: number === undefined ? cell.textContent : number === "" ? null : Number(number) };
    });
    const absent = (value) => value === null || value === "";
    rows.sort((a, b) => {
      if (absent(a.value) || absent(b.value)) return absent(a.value) - absent(b.value);
      const order = typeof a.value === "number" ? a.value - b.value : a.value.localeCompare(b.value, "en", { numeric: true });
      return down ? -order : order;
    });
    body.append(...rows.map((one) => one.row));
  }

  function filter() {
    const words = byId("find").value.toLowerCase().split(/\s+/).filter(Boolean), status = byId("status").value;
    let n = 0;
    for (const row of byId("cell-table").tBodies[0].rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = (status !== "" && row.dataset.status !== status) || !words.every((word) => text.includes(word));
      n += row.hidden ? 0 : 1;
    }
    byId("n-shown").textContent = n + (n === 1 ? " cell" : " cells");
  }

  onChange("metric", drawLaws);
  onChange("view", drawLaws);
  for (const id of ["layer-base", "layer-measure", "layer-rank"]) onChange(id, drawInside);
  for (const id of ["scale-base", "scale-measure"]) onChange(id, drawRowScale);
  onChange("probe-measure", drawProbe);
  if (byId("find")) byId("find").addEventListener("input", filter);
  onChange("status", filter);
  for (const button of document.querySelectorAll(".sortable thead button")) {
    button.addEventListener("click", () => sortBy(button.closest("th")));
  }
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
  drawAll();
})();
