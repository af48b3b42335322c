// Buttons that copy the command in their block, or a name. Browsers offer a clipboard only to this machine and
// over https: without one, the buttons stay hidden.
if (navigator.clipboard) {
  document.documentElement.classList.add("copies");
  // The page replaces its parts when they change: buttons may come later.
  const reveal = () => document.querySelectorAll("[data-copy][hidden]").forEach((button) => (button.hidden = false));
  reveal();
  new MutationObserver(reveal).observe(document.querySelector("main"), { childList: true, subtree: true });

  /** Copy a text, and say on the button for a while whether that worked. */
  async function copy(button, text, [done, failed]) {
    const label = button.textContent;
    const copied = await navigator.clipboard.writeText(text).then(() => true, () => false);
    button.textContent = copied ? done : failed;
    setTimeout(() => (button.textContent = label), 2000);
  }

  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-copy], [data-copy-name]");
    if (!button) return;
    const name = button.dataset.copyName;
    if (name !== undefined) copy(button, name, ["✓", "✗"]);
    else if (button.textContent === "Copy") copy(button, button.parentElement.querySelector("pre").textContent, ["Copied", "Not copied"]);
  });
}
