// Draws a Plotly figure and redraws it in place: Plotly.react with layout.uirevision keeps zoom, pan and legend choices.
const CONFIG = {
  responsive: false,
  displaylogo: false,
  showSendToCloud: false,
  displayModeBar: true,
  modeBarButtonsToRemove: ["toImage", "select2d", "lasso2d", "autoScale2d", "zoomIn2d", "zoomOut2d"],
  doubleClick: "reset",
}
const PRINTED = { text: "#1a1a1a", grid: "#d9d9d9", paper: "#ffffff", font: "Arial, Helvetica, sans-serif", scale: 3 }
const charts = new WeakMap()

// Okabe and Ito's blue is too dark for a dark page.
function readable(figure, token) {
  const isDark = parseInt(token("background-color").slice(1, 3), 16) < 128
  return isDark ? figure.replaceAll("#0072B2", "#3A9BDC").replaceAll("rgba(0,114,178,", "rgba(58,155,220,") : figure
}

function themed(layout, token) {
  const text = token("text-color")
  const grid = token("border-color-light") || token("border-color")
  layout.paper_bgcolor = layout.plot_bgcolor = "rgba(0,0,0,0)"
  layout.font = { family: token("font"), size: 12, color: text }
  layout.hoverlabel = { bgcolor: token("secondary-background-color"), bordercolor: grid, font: { color: text } }
  layout.modebar = { bgcolor: "rgba(0,0,0,0)", color: token("border-color"), activecolor: text }
  for (const name of axes(layout)) Object.assign(layout[name], { gridcolor: grid, linecolor: grid, automargin: true })
  return layout
}

function axes(layout) {
  return Object.keys(layout).filter(name => /^[xy]axis\d*$/.test(name))
}

// What is saved has its zoom and hidden curves as on the screen, but dark text on white, whatever the page's theme.
function save(Plotly, element, format, filename) {
  const layout = structuredClone(element.layout)
  layout.paper_bgcolor = layout.plot_bgcolor = PRINTED.paper
  layout.font = { ...layout.font, family: PRINTED.font, color: PRINTED.text }
  for (const name of axes(layout)) Object.assign(layout[name], { gridcolor: PRINTED.grid, linecolor: PRINTED.grid })
  const size = { width: element.offsetWidth, height: element.offsetHeight, scale: format === "png" ? PRINTED.scale : 1 }
  return Plotly.downloadImage({ data: element.data, layout }, { format, filename, ...size })
}

// Made once for a chart: react draws it anew, and its zoom is gone, when any object of the configuration is another one.
function configuration(Plotly, filename) {
  const button = (format, icon) => ({
    name: `save-${format}`,
    title: `Save as ${format.toUpperCase()}`,
    icon,
    click: element => save(Plotly, element, format, filename),
  })
  const buttons = [button("png", Plotly.Icons.camera), button("svg", Plotly.Icons.disk)]
  return { ...CONFIG, modeBarButtonsToAdd: buttons }
}

// One chart after the other, in the order of the page: the first is seen, and the page answers, before the last is drawn.
function inTurn(draw) {
  const turn = (window.vr1zDrawing ?? Promise.resolve()).then(() => new Promise(resolve => setTimeout(resolve))).then(draw)
  window.vr1zDrawing = turn.catch(() => {})
  return turn
}

function watch(element, Plotly) {
  const chart = charts.get(element)
  element.on("plotly_click", ({ points }) => chart.report("point", { x: points[0].x, curve: points[0].data.name }))
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
  charts.set(element, chart)

  const style = getComputedStyle(element)
  const token = name => style.getPropertyValue(`--st-${name}`).trim()
  const text = readable(data.figure, token)
  const look = [text, token("text-color"), token("border-color")].join()
  if (look === chart.look) return chart.leave
  chart.look = look
  const figure = JSON.parse(text)
  plotly(data.library)
    .then(Plotly =>
      inTurn(async () => {
        if (charts.get(element) !== chart || chart.look !== look) return
        chart.config ??= configuration(Plotly, data.filename)
        await Plotly.react(element, figure.data, themed(figure.layout, token), chart.config)
        if (!chart.observer) watch(element, Plotly)
      })
    )
    .catch(error => {
      element.classList.add("live-chart-error")
      element.textContent = error.message
    })

  chart.leave = () => {
    chart.observer?.disconnect()
    charts.delete(element)
    window.Plotly?.purge(element)
  }
  return chart.leave
}
