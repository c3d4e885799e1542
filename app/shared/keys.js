// Tells Python which of the wanted keys was pressed, unless the user is typing or has turned shortcuts off.
export default function ({ data, setTriggerValue }) {
  const listen = (event) => {
    const isTyping = event.target.closest?.("input, textarea, select, [contenteditable='true']")
    const isOff = window.localStorage.getItem("vr1zKeys") === "off"
    if (!isOff && !isTyping && !event.ctrlKey && !event.metaKey && !event.altKey && data.keys.includes(event.key)) {
      setTriggerValue("pressed", event.key)
    }
  }
  document.addEventListener("keydown", listen)
  return () => document.removeEventListener("keydown", listen)
}
