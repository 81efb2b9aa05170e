// What the pages do beyond their links: tables sort at once, filters are followed without a reload, a page is fetched again while its
// suite runs. In a report there is no server, and the filter chooses among the rows that are there.
"use strict";
(() => {
  const file = document.body.hasAttribute("data-file");
  const few = 100; // rows of a long table that are shown before they are asked for
  const state = () => new URLSearchParams(file ? location.hash.replace(/^#\??/, "") : location.search);
  const hasState = () => file && location.hash.startsWith("#?");

  // Values of a column: numbers by size, texts by their order, what does not exist last.
  const valueOf = (cell) => {
    if (cell === undefined) return null;
    if (cell.dataset.v !== undefined) return cell.dataset.v === "" ? null : Number(cell.dataset.v);
    const text = cell.textContent.trim();
    return text === "" || text === "–" ? null : text;
  };
  const compare = (a, b) => a < b ? -1 : a > b ? 1 : 0;

  // A table and its rows in the order of the page.
  class Table {
    constructor(table) {
      this.table = table;
      this.body = table.tBodies[0];
      this.rows = [...this.body.rows];
      this.values = []; // by column, of those that were sorted by
      this.heads = [...table.tHead.rows[0].cells];
      this.all = !table.hasAttribute("data-many") || this.rows.length <= few;
      if (!this.all) {
        this.button = document.createElement("button");
        this.button.type = "button";
        this.button.addEventListener("click", () => { this.all = true; this.show(); });
        const line = document.createElement("p");
        line.className = "more";
        line.append(this.button);
        table.parentElement.after(line);
      }
      for (const [i, head] of this.heads.entries()) {
        head.firstElementChild.addEventListener("click", (event) => {
          if (event.ctrlKey || event.metaKey || event.shiftKey) return;
          event.preventDefault();
          const now = head.getAttribute("aria-sort");
          this.sort(i, now === "none" ? head.classList.contains("n") : now === "ascending");
          this.keep(head.dataset.key, head.getAttribute("aria-sort") === "descending");
        });
      }
      this.show();
    }

    sort(column, descending) {
      this.values[column] ??= new Map(this.rows.map((row) => [row, valueOf(row.cells[column])]));
      const keyed = this.rows.map((row) => [this.values[column].get(row), row]);
      keyed.sort(([a], [b]) => {
        if (a === null || b === null) return (a === null) - (b === null);
        return descending ? compare(b, a) : compare(a, b);
      });
      this.rows = keyed.map(([, row]) => row);
      for (const head of this.heads) head.setAttribute("aria-sort", "none");
      this.heads[column].setAttribute("aria-sort", descending ? "descending" : "ascending");
      this.show();
    }

    // The order stands in the address, so that the view has a link.
    keep(key, descending) {
      const q = state();
      q.set("sort-" + this.table.id, (descending ? "-" : "") + key);
      history.replaceState(null, "", (file ? "#?" : "?") + q);
    }

    restore(q) {
      const asked = q.get("sort-" + this.table.id);
      if (!asked) return;
      const key = asked.replace(/^-/, "");
      const i = this.heads.findIndex((h) => h.dataset.key === key);
      if (i >= 0) this.sort(i, asked.startsWith("-"));
    }

    filter(wanted) {
      for (const row of this.rows) row.out = !wanted(row);
      this.show();
    }

    // The rows that are shown are those in the page: a browser takes seconds to lay out thousands.
    show() {
      const shown = this.rows.filter((row) => !row.out);
      const part = document.createDocumentFragment();
      for (const row of this.all ? shown : shown.slice(0, few)) part.append(row);
      this.body.replaceChildren(part);
      if (this.button) {
        this.button.parentElement.hidden = this.all || shown.length <= few;
        this.button.textContent = `Show all ${shown.length} rows`;
      }
    }
  }

  // What goes on beyond the right edge fades there.
  const fade = () => {
    for (const e of document.querySelectorAll(".scroll, figure")) e.classList.toggle("beyond", e.scrollLeft + e.clientWidth < e.scrollWidth - 2);
  };

  let tables = [];
  const dress = () => {
    tables = [...document.querySelectorAll(".scroll > table")].map((t) => new Table(t));
    for (const form of document.querySelectorAll("form.filter")) {
      if (file) {
        form.addEventListener("change", () => {
          const q = state();
          for (const select of form.elements) if (select.name) select.value ? q.set(select.name, select.value) : q.delete(select.name);
          history.replaceState(null, "", "#?" + q);
          filterRows();
        });
        form.querySelector("button").hidden = true;
        form.querySelector("a").addEventListener("click", (event) => {
          event.preventDefault();
          history.replaceState(null, "", "#?");
          fromAddress();
        });
        continue;
      }
      const go = () => {
        const q = state();
        for (const field of form.elements) if (field.name) field.value ? q.set(field.name, field.value) : q.delete(field.name);
        visit(form.action.split("?")[0] + "?" + q, true);
      };
      form.addEventListener("change", go);
      form.addEventListener("submit", (event) => { event.preventDefault(); go(); });
    }
  };

  // In a report: show the rows that the address asks for.
  const filterRows = () => {
    const q = state();
    for (const form of document.querySelectorAll("form.filter")) {
      const names = [...form.elements].filter((e) => e.name);
      for (const select of names) select.value = q.get(select.name) || "";
      const detector = names.find((e) => e.name === "detector");
      const at = detector ? detector.selectedIndex - 1 : -1;
      const table = tables.find((t) => t.table.id.endsWith("models") && form.closest(".suite").contains(t.table));
      if (!table) continue;
      table.filter((row) => names.every((select) => {
        if (!select.value || select.name === "detector") return true;
        if (select.name !== "verdict") return row.dataset[select.name] === select.value;
        return (row.dataset.verdict || "").split(" ").some((word) => {
          const [i, said] = word.split(":");
          return said === select.value && (at < 0 || Number(i) === at);
        });
      }));
    }
  };

  const fromAddress = () => {
    const q = state();
    for (const table of tables) table.restore(q);
    filterRows();
  };

  // Fetch a page of this server and put its content in the place of this one's.
  let visits = 0;
  const visit = async (address, push) => {
    const mine = ++visits;
    const answer = await fetch(address);
    const text = await answer.text();
    if (mine !== visits) return;
    const next = new DOMParser().parseFromString(text, "text/html");
    const main = next.querySelector("main");
    const focus = document.activeElement, id = focus && focus.id, name = focus && focus.name;
    const open = [...document.querySelectorAll("details[open][data-keep]")].map((d) => d.dataset.keep);
    const scrolled = [...document.querySelectorAll(".scroll")].map((e) => e.scrollLeft);
    const all = tables.filter((t) => t.all).map((t) => t.table.id);
    document.querySelector("main").replaceWith(main);
    document.title = next.title;
    if (push) history.pushState(null, "", address);
    for (const d of document.querySelectorAll("details[data-keep]")) d.open = open.includes(d.dataset.keep);
    dress();
    for (const t of tables) if (all.includes(t.table.id) && !t.all) { t.all = true; t.show(); }
    document.querySelectorAll(".scroll").forEach((e, i) => { e.scrollLeft = scrolled[i] || 0; });
    const back = id && document.getElementById(id) || name && document.querySelector(`[name="${CSS.escape(name)}"]`);
    fade();
    if (back && document.activeElement !== back) back.focus({ preventScroll: true });
  };

  // While a suite runs: ask whether there is something new, at a pace that the answers allow.
  const watch = async () => {
    for (let pause = 1000; ; ) {
      await new Promise((done) => setTimeout(done, pause));
      const main = document.querySelector("main");
      if (!main.dataset.live || document.hidden) continue;
      try {
        const begun = performance.now();
        const { version } = await (await fetch(main.dataset.live)).json();
        if (version !== main.dataset.version) await visit(location.href.split("#")[0], false);
        pause = Math.max(1000, 5 * (performance.now() - begun));
      } catch {
        pause = 5000; // the viewer was stopped; it may be started again
      }
    }
  };

  dress();
  fade();
  for (const what of ["scroll", "resize", "toggle", "load"]) addEventListener(what, fade, true);
  if (file) {
    if (hasState()) fromAddress();
    addEventListener("hashchange", () => { if (hasState()) fromAddress(); });
  } else {
    addEventListener("popstate", () => visit(location.href, false));
    watch();
  }
})();
