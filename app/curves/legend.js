// The shared legend of all charts: hides curves, shows a single one or brings it to the front. Charts follow
// immediately, by events; Python receives the state to keep it in the URL.
const DASHES = { solid: "", dash: "7 4", dot: "2 3", dashdot: "7 3 2 3", longdash: "12 4" }
const legends = new WeakMap()

function make(tag, name, text) {
  const element = document.createElement(tag)
  element.className = name
  if (text !== undefined) element.textContent = text
  return element
}

function swatch({ colour, dash }) {
  const drawn = document.createElementNS("http://www.w3.org/2000/svg", "svg")
  drawn.setAttribute("width", "26")
  drawn.setAttribute("height", "12")
  drawn.setAttribute("aria-hidden", "true")
  const line = document.createElementNS("http://www.w3.org/2000/svg", "line")
  const look = { x1: 0, x2: 26, y1: 6, y2: 6, stroke: colour, "stroke-width": 3, "stroke-dasharray": DASHES[dash] }
  for (const [name, value] of Object.entries(look)) line.setAttribute(name, value)
  drawn.append(line)
  return drawn
}

function tell(legend) {
  const detail = { hidden: [...legend.hidden], front: legend.front }
  window.dispatchEvent(new CustomEvent("vr1z-legend", { detail }))
  legend.report("state", detail)
  show(legend)
}

function show({ hidden, front, items, told, entries }) {
  for (const [key, { item, box, name }] of items) {
    item.classList.toggle("run-legend-off", hidden.has(key))
    item.classList.toggle("run-legend-front", front === key)
    box.setAttribute("aria-checked", String(!hidden.has(key)))
    name.setAttribute("aria-pressed", String(front === key))
  }
  const shown = entries.filter(entry => !hidden.has(entry.key)).length
  told.textContent = shown === entries.length ? `${shown} shown` : `${shown} of ${entries.length} shown`
}

function button(name, text, label, click) {
  const made = make("button", name, text)
  made.type = "button"
  if (label) made.setAttribute("aria-label", label)
  if (label) made.title = label
  made.addEventListener("click", click)
  return made
}

function only(legend, key) {
  const others = legend.entries.map(entry => entry.key).filter(each => each !== key)
  const isAlone = !legend.hidden.has(key) && others.every(each => legend.hidden.has(each))
  legend.hidden = new Set(isAlone ? [] : others)
}

function line(legend, entry) {
  const { key, label, note } = entry
  const act = change => () => {
    change()
    tell(legend)
  }
  const item = make("li", "")
  const box = button("run-legend-swatch", "", `Show ${label}`, act(() => legend.hidden.delete(key) || legend.hidden.add(key)))
  box.setAttribute("role", "checkbox")
  box.append(swatch(entry))
  const name = button("run-legend-name", label, `Bring ${label} to the front`, act(() => {
    legend.front = legend.front === key ? null : key
    legend.hidden.delete(key)
  }))
  const alone = button("run-legend-only", "only", `Show only ${label}, or all again`, act(() => only(legend, key)))
  const hover = detail => () => window.dispatchEvent(new CustomEvent("vr1z-hover", { detail }))
  item.addEventListener("mouseenter", hover(key))
  item.addEventListener("mouseleave", hover(null))
  item.append(box, name, make("span", "run-legend-note", note), alone)
  legend.items.set(key, { item, box, name })
  return item
}

function build(legend, element) {
  legend.items = new Map()
  const head = make("div", "run-legend-head")
  legend.told = make("span", "run-legend-told")
  const all = button("run-legend-all", "Show all", "", () => {
    legend.hidden = new Set()
    legend.front = null
    tell(legend)
  })
  head.append(legend.told, all, make("span", "run-legend-told", legend.hint))
  const list = make("ul", "")
  list.setAttribute("aria-label", "Curves")
  list.append(...legend.entries.map(entry => line(legend, entry)))
  element.replaceChildren(head, list)
}

export default function ({ data, parentElement, setTriggerValue }) {
  const element = parentElement.querySelector(".run-legend")
  const legend = legends.get(element) ?? {}
  legends.set(element, legend)
  legend.report = setTriggerValue
  const style = getComputedStyle(element)
  const isDark = parseInt(style.getPropertyValue("--st-background-color").trim().slice(1, 3), 16) < 128
  const told = JSON.stringify([data.hidden, data.front])
  if (told !== legend.state) Object.assign(legend, { state: told, hidden: new Set(data.hidden), front: data.front })
  const replaced = data.colours[isDark ? "dark" : "light"]
  const entries = data.entries.map(entry => ({ ...entry, colour: replaced[entry.colour] ?? entry.colour }))
  const look = JSON.stringify([entries, data.hint])
  if (look !== legend.look) {
    Object.assign(legend, { look, entries, hint: data.hint })
    build(legend, element)
  }
  show(legend)
}
