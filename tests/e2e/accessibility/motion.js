// Returns what moves: transitions and animations that take time.
() => {
  const longest = times => Math.max(...times.split(",").map(parseFloat)) // seconds
  const moves = style =>
    longest(style.transitionDuration) > 0.01 || (style.animationName !== "none" && longest(style.animationDuration) > 0.01)
  return [...document.querySelectorAll("*")].flatMap(each =>
    ["", "::before", "::after"].filter(part => moves(getComputedStyle(each, part))).map(part => each.outerHTML.slice(0, 120) + part)
  )
}
