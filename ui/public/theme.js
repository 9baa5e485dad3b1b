// Sets the chosen theme before the first paint, so that a dark page does not start white.
(function () {
  var theme = new URLSearchParams(location.search).get("theme");
  try {
    theme = theme || localStorage.getItem("daybook-theme");
  } catch (error) {
    // No storage in this browser: the system's preference holds.
  }
  if (theme === "dark" || theme === "light") document.documentElement.setAttribute("data-theme", theme);
})();
