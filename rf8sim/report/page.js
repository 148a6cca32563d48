"use strict";
/* Sorting, filtering and paging of tables, the theme, hints over figures. Without it the page is whole all the same. */
(() => {
  const PAGE = 200; // rows of a long table that are shown at a time
  const root = document.documentElement;
  const make = (tag, properties = {}) => Object.assign(document.createElement(tag), properties);

  // --- theme ---
  const key = "rf8sim-theme", button = document.getElementById("theme");
  const system = matchMedia("(prefers-color-scheme: dark)");
  const stored = () => { try { return localStorage.getItem(key); } catch { return null; } };
  const dark = () => (root.dataset.theme || (system.matches ? "dark" : "light")) === "dark";
  const label = () => { button.textContent = dark() ? "Light theme" : "Dark theme"; };
  const kept = stored();
  if (kept === "dark" || kept === "light") root.dataset.theme = kept;
  button.hidden = false;
  button.onclick = () => {
    root.dataset.theme = dark() ? "light" : "dark";
    try { localStorage.setItem(key, root.dataset.theme); } catch { /* a private window keeps nothing */ }
    label();
  };
  system.addEventListener("change", label);
  label();

  // --- tables ---
  // The number that a cell shows; null if it shows none.
  const number = text => {
    if (text === "∞") return Infinity;
    if (text === "-∞") return -Infinity;
    if (text.startsWith("<")) return Number(text.slice(1)) / 2;
    const value = Number(text.replaceAll(",", ""));
    return text === "" || Number.isNaN(value) ? null : value;
  };
  const collator = new Intl.Collator("en", { numeric: true });
  const restores = [];

  for (const table of document.querySelectorAll("table")) {
    const body = table.tBodies[0], all = [...body.rows], heads = [...table.tHead.rows[0].cells];
    if (all.length < 2) continue;
    const last = table.dataset.last !== undefined ? all[all.length - 1] : null; // a sum stays below
    const rows = last ? all.slice(0, -1) : all;
    let shown = rows, page = 0, words = null;

    const tools = make("div", { className: "tools" });
    const status = make("span"), before = make("button", { type: "button", textContent: "Previous" });
    const after = make("button", { type: "button", textContent: "Next" });
    status.setAttribute("role", "status");
    const show = () => {
      const pages = Math.max(1, Math.ceil(shown.length / PAGE));
      page = Math.min(page, pages - 1);
      body.replaceChildren(...shown.slice(page * PAGE, (page + 1) * PAGE), ...(last ? [last] : []));
      before.hidden = after.hidden = pages === 1;
      before.disabled = page === 0;
      after.disabled = page === pages - 1;
      const first = page * PAGE + 1, end = Math.min(shown.length, (page + 1) * PAGE);
      const some = shown.length === rows.length ? `${rows.length} rows` : `${shown.length} of ${rows.length} rows`;
      status.textContent = pages > 1 ? `${first} to ${end} of ${some}` : some;
    };
    before.onclick = () => { page--; show(); };
    after.onclick = () => { page++; show(); };

    if (rows.length > 16) {
      const field = make("input", { type: "search" }), name = make("label", { textContent: "Filter " });
      name.append(field);
      field.setAttribute("aria-label", `Filter ${table.getAttribute("aria-label")}`);
      let waiting = 0;
      field.oninput = () => {
        clearTimeout(waiting);
        waiting = setTimeout(() => {
          words ??= new Map(rows.map(row => [row, row.textContent.toLowerCase()]));
          const wanted = field.value.toLowerCase().split(/\s+/).filter(Boolean);
          shown = rows.filter(row => wanted.every(word => words.get(row).includes(word)));
          page = 0;
          show();
        }, rows.length > 500 ? 120 : 0);
      };
      tools.append(name, status, before, after);
      table.closest(".scroll").before(tools);
    }

    heads.forEach((head, column) => {
      const sort = make("button", { type: "button", textContent: head.textContent });
      head.replaceChildren(sort);
      sort.onclick = () => {
        const up = head.getAttribute("aria-sort") === "descending" ||
          (head.getAttribute("aria-sort") === null && head.classList.contains("text"));
        heads.forEach(other => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", up ? "ascending" : "descending");
        const keys = new Map(rows.map(row => [row, row.cells[column].textContent]));
        const text = head.classList.contains("text");
        const compare = (a, b) => {
          if (text) return collator.compare(a, b) * (up ? 1 : -1);
          const x = number(a), y = number(b); // what is no number comes last either way
          return x === null || y === null ? (x === null) - (y === null) : x === y ? 0 : (x < y) === up ? -1 : 1;
        };
        const order = (a, b) => compare(keys.get(a), keys.get(b));
        rows.sort(order);
        const member = new Set(shown);
        shown = rows.filter(row => member.has(row));
        page = 0;
        show();
      };
    });
    if (rows.length > PAGE) show();
    else status.textContent = `${rows.length} rows`, before.hidden = after.hidden = true;
    restores.push(() => { body.replaceChildren(...rows, ...(last ? [last] : [])); return show; });
  }

  // --- paper: everything open and whole ---
  let undo = [];
  addEventListener("beforeprint", () => {
    undo = restores.map(restore => restore());
    for (const part of document.querySelectorAll("details:not([open])")) {
      part.open = true;
      undo.push(() => { part.open = false; });
    }
  });
  addEventListener("afterprint", () => { undo.forEach(step => step()); undo = []; });

  // --- wide boxes ---
  const cue = box => {
    const wide = box.scrollWidth > box.clientWidth + 1;
    let note = box.previousElementSibling;
    if (!note || note.className !== "cue") {
      note = make("p", { className: "cue", textContent: "Wider than the page: scroll it sideways →" });
      box.before(note);
    }
    note.hidden = !wide;
  };
  const watcher = new ResizeObserver(entries => entries.forEach(entry => cue(entry.target)));
  document.querySelectorAll(".scroll").forEach(box => watcher.observe(box));

  // --- hints over the marks of figures, at once and for fingers too ---
  const tip = make("div", { id: "tip", hidden: true });
  document.body.append(tip);
  for (const title of document.querySelectorAll("svg use > title, svg path > title")) {
    title.parentNode.dataset.tip = title.textContent;
    title.remove();
  }
  const point = event => {
    const mark = event.target instanceof Element ? event.target.closest("[data-tip]") : null;
    tip.hidden = !mark;
    if (!mark) return;
    tip.textContent = mark.dataset.tip;
    const box = tip.getBoundingClientRect();
    tip.style.left = `${Math.max(4, Math.min(event.clientX + 12, innerWidth - box.width - 4))}px`;
    tip.style.top = `${event.clientY + 16 + box.height > innerHeight ? event.clientY - box.height - 8 : event.clientY + 16}px`;
  };
  document.addEventListener("pointermove", point);
  document.addEventListener("pointerdown", point);
})();
