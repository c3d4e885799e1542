// The values behind a chart as a table, for whoever cannot see the chart or use a mouse on it.
const ROWS = 60 // at most; more are hard to listen to
const SIGNS = { "&lt;": "<", "&gt;": ">", "&quot;": '"', "&amp;": "&" }

function plainText(text) {
  return String(text ?? "")
    .replace(/<[^>]*>/g, " ")
    .replace(/&(lt|gt|quot|amp);/g, sign => SIGNS[sign])
    .trim()
}

function written(value, isShare = false) {
  if (typeof value !== "number") return String(value ?? "–")
  if (!Number.isFinite(value)) return "–"
  return isShare ? `${(100 * value).toFixed(1)} %` : Number(value.toPrecision(4)).toLocaleString("en")
}

function thinned(all) {
  if (all.length <= ROWS) return all
  return Array.from({ length: ROWS }, (_, i) => all[Math.round((i * (all.length - 1)) / (ROWS - 1))])
}

// The index of the point nearest to x, if it is within reach; curves seldom have their points at the same places.
function nearest(points, x, reach) {
  if (typeof x !== "number") return points.indexOf(x)
  let best = -1
  for (let i = 0; i < points.length; i++)
    if (Math.abs(points[i] - x) <= reach && (best < 0 || Math.abs(points[i] - x) < Math.abs(points[best] - x))) best = i
  return best
}

function curveTable(element) {
  const layout = element._fullLayout
  const isRead = trace => trace.visible === true && trace.hoverinfo !== "skip" && trace.type !== "heatmap" && trace.x?.length
  const traces = element._fullData.filter(isRead)
  if (!traces.length) return null
  const points = traces.map(trace => [...trace.x])
  const every = [...new Set(points.flat())].filter(x => x !== null && !Number.isNaN(x))
  if (every.every(x => typeof x === "number")) every.sort((a, b) => a - b)
  const places = thinned(every)
  const reach = typeof places[0] === "number" && places.length > 1 ? (places.at(-1) - places[0]) / (places.length - 1) / 2 : 0
  const isShare = traces.map(trace => (layout[trace.yaxis?.replace("y", "yaxis")]?.tickformat ?? "").endsWith("%"))
  const rows = places.map(x => {
    const cells = traces.map((trace, i) => {
      const at = nearest(points[i], x, reach)
      return at < 0 ? "–" : written(trace.y[at], isShare[i])
    })
    return { x, curve: traces[Math.max(0, cells.findIndex(cell => cell !== "–"))], cells }
  })
  return { head: [plainText(layout.xaxis.title?.text) || "x", ...traces.map(trace => plainText(trace.name))], rows }
}

function heatTable(element) {
  const heat = element._fullData.find(trace => trace.type === "heatmap" && trace.visible === true)
  if (!heat) return null
  const places = [...heat.x.keys()]
  const columns = typeof heat.x[0] === "number" ? thinned(places) : places
  const rows = [...heat.y.keys()].map(row => ({
    x: plainText(heat.y[row]),
    cells: columns.map(column => written((heat.customdata ?? heat.z)[row][column])),
  }))
  const title = heat.name && !/^trace \d+$/.test(heat.name) ? plainText(heat.name) : plainText(element._fullLayout.yaxis.title?.text)
  return { head: [title, ...columns.map(column => written(heat.x[column]))], rows }
}

function make(tag, text, attributes = {}) {
  const made = document.createElement(tag)
  if (text !== null) made.textContent = text
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value)
  return made
}

function tableOf({ head, rows }, act) {
  const table = make("table", null)
  const titles = make("tr", null)
  titles.append(...head.map(text => make("th", text, { scope: "col" })))
  const lines = rows.map(row => {
    const line = make("tr", null)
    const first = make("th", act ? null : written(row.x), { scope: "row" })
    if (act) {
      const button = make("button", written(row.x), { type: "button", "aria-label": `${head[0]} ${written(row.x)}: choose it` })
      button.addEventListener("click", () => act(row))
      first.append(button)
    }
    line.append(first, ...row.cells.map(cell => make("td", cell)))
    return line
  })
  table.append(make("thead", null), make("tbody", null))
  table.tHead.append(titles)
  table.tBodies[0].append(...lines)
  return table
}

// Fills `place` with the tables of the drawn chart; `act` is called with the row whose x was chosen, if that does anything.
function listValues(element, place, name, act) {
  const found = [[curveTable(element), act], [heatTable(element), null]].filter(([table]) => table)
  place.setAttribute("aria-label", `Values of ${name}`)
  place.replaceChildren(...found.map(([table, choose]) => tableOf(table, choose)))
}
