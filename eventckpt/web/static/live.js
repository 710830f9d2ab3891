// A page that looks again by itself says so when it can not: htmx leaves what is there as it was.
// The next look that succeeds takes it back, as it replaces the part of the page that this is written into.
"use strict";

const GONE = "The viewer does not answer: this is how it stood when it was looked at last. It is asked again and again.";
const REFUSED = "This was not looked at again: the viewer refuses it. Load the page anew.";

function say(event, text) {
  const part = event.target instanceof Element ? event.target.closest("[hx-trigger^='every']") : null;
  const place = part && part.querySelector("#trouble");
  if (!place || place.textContent === text) return;
  const said = document.createElement("p");
  said.className = "problem";
  said.setAttribute("role", "alert");
  said.textContent = text;
  place.replaceChildren(said);
}

document.addEventListener("htmx:error", (event) => say(event, GONE));
document.addEventListener("htmx:response:error", (event) => {
  if (event.detail.ctx.response.status < 500) say(event, REFUSED);
});
