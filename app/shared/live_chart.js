// Draws a Plotly figure and redraws it in place: Plotly.react with layout.uirevision keeps zoom, pan and legend choices.
const CONFIG = {
  responsive: false,
  displaylogo: false,
  showSendToCloud: false,
  displayModeBar: true,
  modeBarButtonsToRemove: ["toImage", "select2d", "lasso2d", "autoScale2d", "zoomIn2d", "zoomOut2d"],
  doubleClick: "reset",
}
const DOUBLE_CLICK = 320 // milliseconds, slightly more than plotly.js waits for a second click
const PRINTED = { text: "#1a1a1a", grid: "#d9d9d9", paper: "#ffffff", font: "Arial, Helvetica, sans-serif", scale: 3 }
const ICONS = {
  left: { width: 24, height: 24, path: "M15.5 4 7.5 12l8 8 1.5-1.5L10.5 12 17 5.5z" },
  right: { width: 24, height: 24, path: "M8.5 4 7 5.5 13.5 12 7 18.5 8.5 20l8-8z" },
  table: { width: 24, height: 24, path: "M3 4h18v16H3zm2 5v3h6V9zm8 0v3h6V9zm-8 5v4h6v-4zm8 0v4h6v-4z" },
}
const charts = new WeakMap()

const channels = colour => [1, 3, 5].map(at => parseInt(colour.slice(at, at + 2), 16)).join()

// Some colours are too faint in one of the themes.
function readable(figure, token, colours) {
  const isDark = parseInt(token("background-color").slice(1, 3), 16) < 128
  return Object.entries(colours[isDark ? "dark" : "light"]).reduce(
    (text, [from, to]) => text.replaceAll(from, to).replaceAll(`rgba(${channels(from)},`, `rgba(${channels(to)},`),
    figure
  )
}

function themed(layout, token) {
  const text = token("text-color")
  const grid = token("border-color-light") || token("border-color")
  layout.paper_bgcolor = layout.plot_bgcolor = "rgba(0,0,0,0)"
  layout.font = { family: token("font"), size: 12, color: text }
  layout.hoverlabel = { bgcolor: token("secondary-background-color"), bordercolor: grid, font: { color: text } }
  layout.modebar = { bgcolor: token("background-color"), color: text, activecolor: token("primary-color") }
  for (const name of axes(layout)) Object.assign(layout[name], { gridcolor: grid, linecolor: grid, automargin: true })
  return layout
}

function axes(layout) {
  return Object.keys(layout).filter(name => /^[xy]axis\d*$/.test(name))
}

// Saved images keep zoom and hidden curves, but have dark text on white in any theme.
function save(Plotly, element, format, filename) {
  const layout = structuredClone(element.layout)
  layout.paper_bgcolor = layout.plot_bgcolor = PRINTED.paper
  layout.font = { ...layout.font, family: PRINTED.font, color: PRINTED.text }
  for (const name of axes(layout)) Object.assign(layout[name], { gridcolor: PRINTED.grid, linecolor: PRINTED.grid })
  const size = { width: element.offsetWidth, height: element.offsetHeight, scale: format === "png" ? PRINTED.scale : 1 }
  return Plotly.downloadImage({ data: element.data, layout }, { format, filename, ...size })
}

// Shows another part of the x axis: `by` widths further to the right, `wide` times as wide. Dragging does the same.
function look(Plotly, element, by, wide) {
  const [lo, hi] = element.layout.xaxis.range
  const middle = (lo + hi) / 2 + by * (hi - lo)
  const half = (wide * (hi - lo)) / 2
  return Plotly.relayout(element, { "xaxis.range[0]": middle - half, "xaxis.range[1]": middle + half })
}

function toggleValues(element) {
  const chart = charts.get(element)
  chart.values.hidden = !chart.values.hidden
  if (!chart.values.hidden) chart.list()
}

// Created once per chart: if any object of the configuration changes, react creates a new plot and loses the zoom.
function configuration(Plotly, { filename, zooms }) {
  const button = (format, icon) => ({
    name: `save-${format}`,
    title: `Save as ${format.toUpperCase()}`,
    icon,
    click: element => save(Plotly, element, format, filename),
  })
  const view = (name, title, icon, by, wide) => ({
    name,
    title,
    icon,
    click: element => look(Plotly, element, by, wide),
  })
  const buttons = [
    view("closer", "Show half the range", Plotly.Icons.zoom_plus, 0, 0.5),
    view("wider", "Show twice the range", Plotly.Icons.zoom_minus, 0, 2),
    view("left", "Move left", ICONS.left, -0.5, 1),
    view("right", "Move right", ICONS.right, 0.5, 1),
    button("png", Plotly.Icons.camera),
    button("svg", Plotly.Icons.disk),
    { name: "values", title: "Show or hide the values as a table", icon: ICONS.table, click: toggleValues },
  ]
  return { ...CONFIG, modeBarButtonsToAdd: buttons, doubleClick: zooms ? "autosize" : CONFIG.doubleClick }
}

// Draws charts one by one in page order, so that the first is visible before the last is drawn.
function inTurn(draw) {
  const turn = (window.vr1zDrawing ?? Promise.resolve()).then(() => new Promise(resolve => setTimeout(resolve))).then(draw)
  window.vr1zDrawing = turn.catch(() => {})
  return turn
}

// Curves with a key in their `meta` belong to runs: the page's legend hides them, and all charts highlight one.
const keyOf = trace => trace?.meta?.key ?? null

function hide(chart, traces) {
  for (const trace of traces) {
    const isHidden = chart.hidden.has(keyOf(trace)) || chart.hidden.has(trace.meta?.group)
    if (keyOf(trace) !== null) trace.visible = !isHidden
  }
}

function highlight(element, key) {
  const chosen = key ?? charts.get(element)?.front ?? null
  let found = false
  for (const node of element.querySelectorAll(".scatterlayer .trace")) {
    const trace = node.__data__?.[0]?.trace
    const isChosen = chosen !== null && (keyOf(trace) === chosen || trace?.meta?.group === chosen)
    node.classList.toggle("live-chart-chosen", isChosen)
    found ||= isChosen
  }
  element.classList.toggle("live-chart-dimmed", found)
}

function follow(element, Plotly, chart) {
  const onHover = ({ detail }) => highlight(element, detail)
  const onLegend = ({ detail }) => {
    chart.hidden = new Set(detail.hidden)
    chart.front = detail.front
    inTurn(async () => {
      if (charts.get(element) !== chart) return
      hide(chart, element.data)
      await Plotly.restyle(element, { visible: element.data.map(trace => trace.visible ?? true) })
      highlight(element, null)
    })
  }
  window.addEventListener("vr1z-hover", onHover)
  window.addEventListener("vr1z-legend", onLegend)
  const say = key => window.dispatchEvent(new CustomEvent("vr1z-hover", { detail: key }))
  element.on("plotly_hover", ({ points }) => say(keyOf(points[0].data)))
  element.on("plotly_unhover", () => say(null))
  element.on("plotly_afterplot", () => highlight(element, null))
  return () => {
    window.removeEventListener("vr1z-hover", onHover)
    window.removeEventListener("vr1z-legend", onLegend)
  }
}

// Reports a zoom once it has stopped changing; null when the whole axis is visible again.
function reportRange(element, chart) {
  element.on("plotly_relayout", change => {
    const isReset = change["xaxis.autorange"] === true
    if (!isReset && change["xaxis.range[0]"] === undefined) return
    clearTimeout(chart.resting)
    const [lo, hi] = isReset ? [null, null] : element.layout.xaxis.range
    chart.resting = setTimeout(() => chart.report("range", { lo, hi }), 250)
  })
}

function watch(element, Plotly, data) {
  const chart = charts.get(element)
  // If a double-click zooms out, its first click must not count as a click that opens another page.
  element.on("plotly_click", ({ points, event }) => {
    clearTimeout(chart.clicking)
    if (data.zooms && event.detail > 1) return
    const { name, meta } = points[0].data
    const report = () => chart.report("point", { x: points[0].x, curve: name, key: meta?.key ?? null })
    chart.clicking = setTimeout(report, data.zooms ? DOUBLE_CLICK : 0)
  })
  if (data.follows) chart.unfollow = follow(element, Plotly, chart)
  if (data.zooms) reportRange(element, chart)
  chart.observer = new ResizeObserver(() => element.offsetWidth && Plotly.Plots.resize(element))
  chart.observer.observe(element)
}

export default function ({ data, parentElement, setTriggerValue }) {
  const element = parentElement.querySelector(".live-chart")
  element.setAttribute("role", "figure")
  element.setAttribute("aria-label", data.alt)
  element.style.height = `${data.height}px`
  const chart = charts.get(element) ?? {}
  chart.report = setTriggerValue
  chart.values = parentElement.querySelector(".live-chart-values")
  const choose = ({ x, curve }) => chart.report("point", { x, curve: curve.name, key: curve.meta?.key ?? null })
  chart.list = () => listValues(element, chart.values, data.alt, data.clicks && !data.follows ? choose : null)
  charts.set(element, chart)
  const told = JSON.stringify(data.follows)
  if (told !== chart.told) {
    chart.told = told
    chart.hidden = new Set(data.follows?.hidden)
    chart.front = data.follows?.front ?? null
  }

  const style = getComputedStyle(element)
  const token = name => style.getPropertyValue(`--st-${name}`).trim()
  const text = readable(data.figure, token, data.colours)
  const look = [text, token("text-color"), token("border-color")].join()
  if (look === chart.look) return chart.leave
  chart.look = look
  const figure = JSON.parse(text)
  plotly(data.library)
    .then(Plotly =>
      inTurn(async () => {
        if (charts.get(element) !== chart || chart.look !== look) return
        chart.config ??= configuration(Plotly, data)
        hide(chart, figure.data)
        await Plotly.react(element, figure.data, themed(figure.layout, token), chart.config)
        if (!chart.observer) watch(element, Plotly, data)
        if (data.follows) highlight(element, null)
        if (!chart.values.hidden) chart.list()
      })
    )
    .catch(error => {
      element.classList.add("live-chart-error")
      element.textContent = error.message
    })

  chart.leave = () => {
    chart.observer?.disconnect()
    chart.unfollow?.()
    clearTimeout(chart.resting)
    clearTimeout(chart.clicking)
    charts.delete(element)
    window.Plotly?.purge(element)
  }
  return chart.leave
}
