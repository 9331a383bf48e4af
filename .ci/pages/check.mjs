// Checks HTML pages: are they valid (html-validate), and can everybody read them (axe-core, in jsdom)?
//
//     node check.mjs PAGE...
//
// What needs a layout (contrast, sizes) jsdom cannot tell; contrast is a unit test of the report's colours.
import { readFileSync } from "node:fs";
import axe from "axe-core";
import { HtmlValidate } from "html-validate";
import { JSDOM } from "jsdom";

const validator = new HtmlValidate({
  root: true,
  extends: ["html-validate:standard", "html-validate:a11y"],
  // ARIA lets lists have a name.
  rules: { "aria-label-misuse": ["error", { allowAnyNamable: true }] },
});

/** What is wrong with the page's form: a line each. */
async function invalid(text, file) {
  const report = await validator.validateString(text, file);
  return report.results.flatMap(({ messages }) =>
    messages.map(({ line, column, ruleId, message }) => `${file}:${line}:${column}: ${message} (${ruleId})`),
  );
}

/** What keeps people from reading it: a line each. */
async function inaccessible(text, file) {
  const { window } = new JSDOM(text, { runScripts: "outside-only" });
  window.eval(axe.source);
  const { violations, passes } = await window.axe.run(window.document, { rules: { "color-contrast": { enabled: false } } });
  window.close();
  if (passes.length === 0) throw new Error(`${file}: axe looked at nothing`);
  return violations.flatMap(({ id, help, nodes }) =>
    nodes.map(({ target, html }) => `${file}: ${help} (${id}): ${target}: ${html.slice(0, 200)}`),
  );
}

const files = process.argv.slice(2);
if (files.length === 0) throw new Error("no page to check");
let faults = 0;
for (const file of files) {
  const text = readFileSync(file, "utf8");
  for (const fault of [...(await invalid(text, file)), ...(await inaccessible(text, file))]) {
    console.log(fault);
    faults += 1;
  }
}
console.log(`${files.length} pages, ${faults} faults`);
process.exitCode = faults === 0 ? 0 : 1;
