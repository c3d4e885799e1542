// Writes the chosen theme for every page to where Streamlit reads it, and reloads the page.
export default function ({ data, parentElement }) {
  const button = parentElement.querySelector("button")
  const next = data.is_dark ? "Light" : "Dark"
  button.textContent = next === "Dark" ? "☾ Dark theme" : "☀ Light theme"
  button.onclick = () => {
    const here = window.location.pathname
    const base = here.slice(0, here.lastIndexOf("/") + 1)
    for (const page of data.pages) window.localStorage.setItem(`stActiveTheme-${base}${page}-v2`, JSON.stringify(next))
    window.location.reload()
  }
}
