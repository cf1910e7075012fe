/* What is printed has the light colours, on the screen as well as long as the window of the printer is open. */
"use strict";

(function () {
  const shown = document.documentElement.dataset;
  let before;

  window.addEventListener("beforeprint", function () {
    before = shown.theme;
    shown.theme = "light";
  });

  window.addEventListener("afterprint", function () {
    shown.theme = before;
  });
})();
