// What is looked at of every page, by whoever may run scripts in it: the driver. `canary` is what no page may have set.
(canary) => {
  const troubles = [];
  const wrong = (what, found) => found && troubles.push(`${what}: ${found === true ? "" : found}`);
  const page = document.documentElement;
  wrong("a script of the store has run", window[canary]);
  wrong("the page is wider than the window, by", Math.max(0, page.scrollWidth - page.clientWidth));
  wrong("it has not one heading but", document.querySelectorAll("h1").length !== 1 && String(document.querySelectorAll("h1").length));
  for (const element of document.querySelectorAll("*")) {
    const mark = element.outerHTML.slice(0, 120);
    for (const { name, value } of element.attributes) {
      wrong("a handler in an attribute", (name.startsWith("on") || name.startsWith("hx-on")) && mark);
      wrong("a style in an attribute", name === "style" && !element.closest("svg") && mark);
      wrong("an address that is a script", ["href", "src", "action", "xlink:href", "formaction"].includes(name) && /^\s*(javascript|data|vbscript):/i.test(value) && mark);
    }
    wrong("an element that no page has", ["IFRAME", "OBJECT", "EMBED", "BASE", "STYLE", "foreignObject", "IMG-X"].includes(element.tagName) && mark);
    wrong("a script in the page", element.tagName === "SCRIPT" && !element.src && mark);
  }
  // Whatever turns the direction of text or moves a cursor is spelled out.
  const obeyed = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff]/;
  wrong("text that is obeyed", obeyed.test(page.textContent + document.title) && JSON.stringify(obeyed.exec(page.textContent + document.title).input.slice(Math.max(0, obeyed.exec(page.textContent + document.title).index - 20)).slice(0, 40)));
  const links = [...document.querySelectorAll("a[href]")].map((a) => a.getAttribute("href"));
  return { troubles, links, title: document.title };
}
