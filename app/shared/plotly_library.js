// Loads plotly.js once for the whole page.
function plotly(url) {
  window.vr1zPlotly ??= new Promise((resolve, reject) => {
    const script = document.createElement("script")
    script.src = url
    script.onload = () => resolve(window.Plotly)
    script.onerror = () => {
      window.vr1zPlotly = null
      reject(new Error(`Charts need ${url}. Start the dashboard with: python -m app`))
    }
    document.head.appendChild(script)
  })
  return window.vr1zPlotly
}
