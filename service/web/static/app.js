// What pages do beyond HTML: the theme switch, copying, and times that go on. Each works without.
(function () {
  "use strict";
  var THEMES = ["auto", "light", "dark"];
  var root = document.documentElement;

  function showTheme() {
    document.querySelectorAll("[data-theme-name]").forEach(function (name) {
      name.textContent = root.dataset.theme || "auto";
    });
  }

  function switchTheme() {
    var next = THEMES[(THEMES.indexOf(root.dataset.theme || "auto") + 1) % THEMES.length];
    if (next === "auto") delete root.dataset.theme;
    else root.dataset.theme = next;
    try {
      localStorage.setItem("theme", next);
    } catch (error) {
      // The choice holds for this page.
    }
    showTheme();
  }

  function copy(button) {
    var source = document.getElementById(button.dataset.copy);
    var label = button.querySelector("[data-copy-label]");
    function say(word) {
      label.textContent = word;
      setTimeout(function () { label.textContent = "Copy"; }, 2000);
    }
    function select() {
      var range = document.createRange();
      range.selectNodeContents(source);
      var selection = getSelection();
      selection.removeAllRanges();
      selection.addRange(range);
      say("Selected");
    }
    if (!navigator.clipboard) select();
    else navigator.clipboard.writeText(source.textContent).then(function () { say("Copied"); }, select);
  }

  var UNITS = [["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]];
  var relative = new Intl.RelativeTimeFormat("en", { numeric: "always" });

  function updateTimes() {
    document.querySelectorAll("time[data-relative]").forEach(function (time) {
      var seconds = Math.round((Date.parse(time.dateTime) - Date.now()) / 1000);
      var unit = UNITS.find(function (each) { return Math.abs(seconds) >= each[1]; }) || UNITS[3];
      var text = Math.abs(seconds) < 5 ? "just now" : relative.format(Math.trunc(seconds / unit[1]), unit[0]);
      if (time.textContent !== text) time.textContent = text;
    });
  }

  document.addEventListener("click", function (event) {
    var button = event.target.closest("button");
    if (!button) return;
    if ("themeSwitch" in button.dataset) switchTheme();
    if (button.dataset.copy) copy(button);
  });
  document.addEventListener("htmx:afterSettle", updateTimes);
  document.addEventListener("htmx:sseMessage", updateTimes);
  showTheme();
  updateTimes();
  setInterval(updateTimes, 10000);
})();
