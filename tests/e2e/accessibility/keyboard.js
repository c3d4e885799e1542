// Follows the focus while Tab is pressed, and tells what of our own HTML it does not reach, or does not show.
() => {
  const OURS = "[data-testid='stHtml'], .live-chart, .live-chart-values, .run-legend"
  const ACTS = "a[href], button, summary, [role='button'], [role='checkbox'], [tabindex='0']"
  const LOOK = ["outlineStyle", "outlineWidth", "outlineColor", "boxShadow", "borderTopColor", "backgroundColor", "color", "textDecorationLine", "opacity"]

  const look = element => JSON.stringify(LOOK.map(name => getComputedStyle(element)[name]))
  const isOurs = element => Boolean(element.closest(OURS)) || element.getRootNode() instanceof ShadowRoot
  const isShown = element => element.checkVisibility({ visibilityProperty: true }) && element.getClientRects().length > 0
  const every = root => [...root.querySelectorAll("*")].flatMap(each => [each, ...(each.shadowRoot ? every(each.shadowRoot) : [])])

  const walk = { order: [], seen: new Set(), focused: new Map(), faint: [], rounds: 0 }
  let now = null
  const leave = () => {
    if (now === null) return
    walk.focused.set(now, look(now))
    now = null
  }
  document.addEventListener("keydown", event => event.key === "Tab" && leave(), true)
  document.addEventListener("focusin", event => {
    now = event.composedPath()[0]
    if (now === walk.order[0]) walk.rounds += 1
    walk.order.push(now)
    walk.seen.add(now)
  })

  walk.tell = () => {
    leave()
    document.activeElement?.blur()
    const ours = every(document.body).filter(each => isOurs(each) && isShown(each))
    const wanted = ours.filter(each => each.matches(ACTS) && !each.disabled)
    const clickable = ours.filter(each => getComputedStyle(each).cursor === "pointer" && !each.closest(ACTS) && !each.closest(".main-svg"))
    const told = elements => [...new Set(elements.map(each => each.outerHTML.slice(0, 200)))]
    return {
      missed: told([...wanted.filter(each => !walk.seen.has(each)), ...clickable]),
      unseen: told([...walk.focused].filter(([each, was]) => each.isConnected && isOurs(each) && was === look(each)).map(([each]) => each)),
      reached: wanted.filter(each => walk.seen.has(each)).length,
      rounds: walk.rounds,
      pressed: walk.order.length,
      last: told(walk.order.slice(-3)),
    }
  }
  window.vr1zWalk = walk
}
