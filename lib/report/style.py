"""The page's style sheet and its script, which only sorts tables."""

from __future__ import annotations

from lib.report.theme import DARK, LIGHT, Theme


def _colours(theme: Theme) -> str:
    plain = {"page": theme.page, "ink": theme.ink, "quiet": theme.quiet, "line": theme.line}
    runs = {f"run{i}": colour for i, colour in enumerate(theme.runs)}
    colours = {**plain, "good": theme.good, "bad": theme.bad, **runs}
    return "".join(f"--{name}:{colour};" for name, colour in colours.items())


STYLE = (
    f"""
:root {{ color-scheme: light dark; {_colours(LIGHT)} }}
@media screen and (prefers-color-scheme: dark) {{ :root {{ {_colours(DARK)} }} }}
"""
    + """
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 15px/1.5 Inter, "Helvetica Neue", Arial, "Liberation Sans", sans-serif; font-variant-numeric: tabular-nums; }
header, main, footer { max-width: 1192px; margin: 0 auto; padding: 0 24px; }
header { padding-top: 40px; }
h1 { font-size: 30px; line-height: 1.2; letter-spacing: -.015em; margin: 0 0 6px; }
h2 { font-size: 21px; letter-spacing: -.01em; margin: 0 0 2px; }
h3 { font-size: 15px; margin: 28px 0 2px; }
p { margin: 0 0 10px; max-width: 78ch; }
.lede, .note, figcaption, footer { color: var(--quiet); }
.note, figcaption, footer { font-size: 13px; }
p.note { max-width: 105ch; }
figcaption { margin-top: 4px; max-width: 78ch; }
a { color: inherit; text-decoration-color: var(--line); text-underline-offset: 3px; }
a:hover { text-decoration-color: currentColor; }
nav { position: sticky; top: 0; z-index: 2; background: var(--page);
  border-bottom: 1px solid var(--line); margin-top: 22px;
}
nav ul { max-width: 1192px; margin: 0 auto; padding: 9px 24px; list-style: none; display: flex; gap: 20px;
  overflow-x: auto;
  white-space: nowrap; font-size: 13.5px; }
nav a { text-decoration: none; color: var(--quiet); }
nav a:hover { color: var(--ink); }
section { padding: 34px 0 6px; scroll-margin-top: 34px; }
section + section { border-top: 1px solid var(--line); margin-top: 28px; }
.tiles { display: grid; gap: 18px 28px; margin: 24px 0 0;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 220px), 1fr)); }
.tile { border-left: 4px solid var(--run); padding: 0 0 2px 14px; }
.tile .name { font-weight: 600; overflow-wrap: anywhere; }
.tile .big { font-size: 42px; line-height: 1.1; font-weight: 650; letter-spacing: -.02em; }
.tile .big small { font-size: 13px; font-weight: 400; letter-spacing: 0; color: var(--quiet); margin-left: 6px; }
.tile dl { display: flex; flex-wrap: wrap; gap: 2px 18px; margin: 4px 0 0; font-size: 13.5px; }
.tile dl div { display: flex; gap: 6px; }
.tile dt { color: var(--quiet); }
.tile dd { margin: 0; font-weight: 600; }
ul.findings { padding-left: 18px; margin: 8px 0 20px; max-width: 82ch; }
ul.findings li { margin: 3px 0; }
.pair { display: grid; gap: 20px 24px; align-items: start;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 480px), 1fr)); }
.pair > * { min-width: 0; }
figure { margin: 18px 0 8px; }
figure img { display: block; width: 100%; max-width: 640px; height: auto; }
figure.wide img { max-width: none; }
figure.wide .scroll img { min-width: 860px; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: 13.5px; margin: 14px 0 8px; }
.fill table { width: 100%; }
th, td { padding: 4px 12px 4px 0; text-align: left; white-space: nowrap; border-bottom: 1px solid var(--line); }
th:last-child, td:last-child { padding-right: 0; }
th button { all: unset; cursor: pointer; color: var(--quiet); font-weight: 400; }
th button:hover, th button:focus-visible { color: var(--ink); text-decoration: underline; text-underline-offset: 3px; }
th[aria-sort] button { color: var(--ink); font-weight: 600; }
th[aria-sort=ascending] button::after { content: " \\2191"; }
th[aria-sort=descending] button::after { content: " \\2193"; }
.n { text-align: right; }
td.wrap { white-space: normal; overflow-wrap: anywhere; min-width: 150px; }
tfoot td { font-weight: 600; border-bottom: 0; }
.up { color: var(--good); }
.down { color: var(--bad); }
.dot { display: inline-block; background: var(--run);
  width: .72em; height: .72em; border-radius: 2px; margin-right: 7px; }
details { margin: 14px 0; }
summary { cursor: pointer; font-size: 13.5px; color: var(--quiet); }
summary:hover { color: var(--ink); }
dl.terms { margin: 18px 0 8px; font-size: 13px; display: grid; grid-template-columns: max-content 1fr; gap: 7px 14px; }
dl.terms dt { font-weight: 600; }
dl.terms dd { margin: 0; color: var(--quiet); }
code { font-size: 12.5px; overflow-wrap: anywhere; }
footer { padding-top: 8px; padding-bottom: 48px; }
@media (max-width: 600px) {
  header, main, footer { padding-left: 16px; padding-right: 16px; }
  header { padding-top: 24px; }
  nav ul { padding-left: 16px; padding-right: 16px; }
  h1 { font-size: 24px; }
}
@media print {
  @page { margin: 14mm 12mm; }
  nav { display: none; }
  header, main, footer { padding: 0; }
  .pair { grid-template-columns: 1fr 1fr; }
  body { font-size: 12px; }
  figure, .tile, tr { break-inside: avoid; }
  tfoot { display: table-row-group; }
  h2, h3 { break-after: avoid; }
  .scroll { overflow: visible; }
  figure.wide .scroll img { min-width: 0; }
}
"""
)

SCRIPT = """
for (const head of document.querySelectorAll("thead th")) head.addEventListener("click", () => {
  const body = head.closest("table").tBodies[0], column = head.cellIndex, number = head.classList.contains("n");
  const up = head.getAttribute("aria-sort") === (number ? "descending" : "ascending") ? number : !number;
  const key = row => row.cells[column].dataset.v;
  const order = number ? (a, b) => key(a).replace("inf", "Infinity") - key(b).replace("inf", "Infinity") || 0
                       : (a, b) => key(a).localeCompare(key(b));
  for (const other of head.parentNode.cells) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", up ? "ascending" : "descending");
  body.append(...[...body.rows].sort((a, b) => up ? order(a, b) : order(b, a)));
});
"""
