// What the pages need beside htmx: the buttons beside the slider, and typed confirmations.
// Without it every page still reads, and every form still works: the server checks all of it.
"use strict";

(() => {
  const slider = document.getElementById("version");

  const show = (version) => {
    const wanted = Math.min(Number(slider.max), Math.max(1, version));
    if (wanted !== Number(slider.value)) {
      slider.value = String(wanted);
      slider.dispatchEvent(new Event("input", { bubbles: true }));
    }
  };

  const shown = () => {
    const moment = document.getElementById("moment");
    if (!moment) return;
    const version = Number(moment.dataset.version);
    for (const [id, end] of [["back", 1], ["on", Number(slider.max)]]) {
      const button = document.getElementById(id);
      const next = Math.min(Number(slider.max), Math.max(1, version + Number(button.dataset.step)));
      button.href = `?version=${next}`;
      button.toggleAttribute("data-end", version === end);
    }
    for (const row of document.querySelectorAll(".timeline tr")) {
      const link = row.querySelector("[data-version]");
      row.classList.toggle("here", link !== null && Number(link.dataset.version) === version);
    }
    history.replaceState(history.state, "", `?version=${version}`);
  };

  if (slider) {
    document.addEventListener("click", (event) => {
      const button = event.target.closest("[data-step]");
      const plain = event.button === 0 && !event.ctrlKey && !event.metaKey && !event.shiftKey;
      if (button && plain) {
        event.preventDefault();
        show(Number(slider.value) + Number(button.dataset.step));
      }
    });
    document.body.addEventListener("htmx:afterSwap", (event) => {
      if (event.detail.target.id === "moment") shown();
    });
  }

  for (const field of document.querySelectorAll("[data-typed]")) {
    const button = field.form.querySelector("button.primary");
    const check = () => {
      button.disabled = field.value.trim().replaceAll(",", "") !== field.dataset.typed;
    };
    field.addEventListener("input", check);
    check();
  }

  // A form goes out once; the server would not act twice on it either.
  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (form.method !== "post") return;
    if (form.dataset.sent) event.preventDefault();
    form.dataset.sent = "1";
  });
  window.addEventListener("pageshow", () => {
    for (const form of document.forms) delete form.dataset.sent;
  });
})();
