// Returns what breaks a rule on this page: by axe, and by checks of what axe does not look at.
async ({ rules, left }) => {
  const SMALL = 4.5, LARGE = 3 // least contrast of text, WCAG 1.4.3
  const GRAPHIC = 3 // least contrast of lines and symbols, WCAG 1.4.11

  const parts = colour => {
    const [r, g, b, a = 1] = colour.match(/[\d.]+/g).map(Number)
    return { r, g, b, a }
  }
  const over = (top, below) => {
    const mix = key => top[key] * top.a + below[key] * (1 - top.a)
    return { r: mix("r"), g: mix("g"), b: mix("b"), a: 1 }
  }
  const luminance = ({ r, g, b }) => {
    const [x, y, z] = [r, g, b].map(v => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    return 0.2126 * x + 0.7152 * y + 0.0722 * z
  }
  const contrast = (one, other) => {
    const [low, high] = [luminance(one), luminance(other)].sort((a, b) => a - b)
    return (high + 0.05) / (low + 0.05)
  }
  const ancestors = function* (node) {
    for (; node instanceof Element; node = node.parentNode instanceof ShadowRoot ? node.parentNode.host : node.parentNode)
      yield node
  }
  const behind = node => {
    const found = [...ancestors(node)].map(each => getComputedStyle(each).backgroundColor).map(parts)
    return found.reverse().reduce((below, top) => over(top, below), { r: 255, g: 255, b: 255, a: 1 })
  }
  const opacity = node => [...ancestors(node)].reduce((all, each) => all * getComputedStyle(each).opacity, 1)

  // axe takes the colour of a text in a drawing from `color`, not from `fill`.
  const drawnTexts = () =>
    [...document.querySelectorAll("svg text")]
      .filter(text => text.textContent.trim() && text.checkVisibility({ opacityProperty: true, visibilityProperty: true }))
      .filter(text => !text.closest(".hoverlayer")) // shown only where the mouse is
      .filter(text => !(text.closest(".textpoint") && text.closest(".main-svg").querySelector(".hm"))) // on a cell, not on the page
      .flatMap(text => {
        const runs = [...text.querySelectorAll("tspan")].filter(run => !run.firstElementChild && run.textContent.trim())
        return runs.length ? runs : [text]
      })
      .flatMap(run => {
        const style = getComputedStyle(run)
        const fill = parts(style.fill)
        const back = behind(run)
        const front = over({ ...fill, a: fill.a * style.fillOpacity * opacity(run) }, back)
        const size = parseFloat(style.fontSize)
        const isLarge = size >= 24 || (size >= 18.66 && style.fontWeight >= 700)
        const least = !/[\p{L}\p{N}]/u.test(run.textContent) ? GRAPHIC : isLarge ? LARGE : SMALL
        const ratio = contrast(front, back)
        const why = `${ratio.toFixed(2)} : 1, “${run.textContent.slice(0, 40)}” in ${style.fill}`
        return ratio < least ? [{ rule: "drawn-text-contrast", element: run, why }] : []
      })

  // Curves of the chart itself; those drawn for comparison are faint on purpose.
  const curves = () =>
    [...document.querySelectorAll(".js-line, .run-legend line")]
      .filter(line => line.checkVisibility() && opacity(line) > 0.85 && parseFloat(getComputedStyle(line).strokeWidth) > 1)
      .flatMap(line => {
        const { stroke } = getComputedStyle(line)
        const ratio = contrast(over(parts(stroke), behind(line)), behind(line))
        return ratio < GRAPHIC ? [{ rule: "curve-contrast", element: line, why: `${ratio.toFixed(2)} : 1, ${stroke}` }] : []
      })

  const ran = await axe.run(document, { elementRef: true, resultTypes: ["violations"], ...rules })
  const found = ran.violations.flatMap(({ id, nodes }) =>
    nodes.map(node => ({ rule: id, element: node.element, why: node.failureSummary.split("\n").slice(1).join(" ") }))
  )
  return [...found, ...drawnTexts(), ...curves()].map(({ rule, element, why }) => ({
    rule,
    why: why.trim(),
    html: element.outerHTML.slice(0, 300),
    within: [...ancestors(element)].map(e => e.dataset?.testid ?? (typeof e.className === "string" ? e.className : "")).filter(Boolean).slice(0, 6).join(" < "),
    left: left.findIndex(each => each.rule === rule && element.matches(each.where)),
  }))
}
