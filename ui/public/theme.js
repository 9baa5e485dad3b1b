// Before the app: sets the chosen theme, so that a dark page does not start white, and watches for a crash.
(function () {
  // After a trap in the app nothing on the page works any more: say so (base.css has the words).
  addEventListener("error", function (event) {
    if (event.error instanceof WebAssembly.RuntimeError) document.body.classList.add("crashed");
  });
  var theme = new URLSearchParams(location.search).get("theme");
  try {
    theme = theme || localStorage.getItem("daybook-theme");
  } catch (error) {
    // No storage in this browser: the system's preference holds.
  }
  if (theme === "dark" || theme === "light") document.documentElement.setAttribute("data-theme", theme);
})();
