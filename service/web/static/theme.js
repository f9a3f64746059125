// Before anything is painted: the theme that was chosen here, and that scripts run at all.
(function () {
  "use strict";
  var root = document.documentElement;
  root.classList.add("js");
  try {
    var theme = localStorage.getItem("theme");
    if (theme === "light" || theme === "dark") root.dataset.theme = theme;
  } catch (error) {
    // A browser that stores nothing has the theme of its system.
  }
})();
